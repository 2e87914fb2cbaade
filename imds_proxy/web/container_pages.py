"""What a container's client reads: its credentials, or why it gets none, as ECS and EKS put it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from imds_proxy.web.answer import Page, render_page
from imds_proxy.web.documents import MOST_PAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imds_proxy.model import Credentials, RoleSession


class ContainerPages:
    """The pages of the newest credentials, made once and dropped together with them."""

    def __init__(self) -> None:
        self._pages: WeakKeyDictionary[Credentials, Page] = WeakKeyDictionary()

    def page_of(self, session: RoleSession, credentials: Credentials) -> Page:
        """Return the page of credentials, which `session` has brought."""
        page = self._pages.get(credentials)
        if page is None:
            if len(self._pages) >= MOST_PAGES:
                del self._pages[next(iter(self._pages))]
            page = self._pages[credentials] = _render(200, document_of(session, credentials))
        return page


def document_of(session: RoleSession, credentials: Credentials) -> dict[str, str]:
    """Return the keys that ECS's endpoint gives, and the account id that EKS's adds."""
    return {
        "RoleArn": session.role_arn,
        "AccessKeyId": credentials.access_key,
        "SecretAccessKey": credentials.secret_key,
        "Token": credentials.session_token,
        "Expiration": credentials.expiration,
        "AccountId": credentials.account_id,
    }


def render_error(status: int, code: str, message: str, **headers: str) -> Page:
    """Return the page of an error: Java's SDK and Go's show `code` and `message`, the others all of it."""
    return _render(status, {"code": code, "message": message}, **headers)


def _render(status: int, values: Mapping[str, str], **headers: str) -> Page:
    body = json.dumps(values).encode("ascii")
    return render_page(status, body, Content_Type="application/json", Cache_Control="no-store", **headers)
