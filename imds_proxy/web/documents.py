"""The documents of the metadata service as bytes, in the form that real instances give them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import formatdate
from hashlib import sha256
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from imds_proxy.web.answer import Page, render_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imds_proxy.model import Credentials, RoleSession

_NOT_FOUND = b"""\
<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
\t"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>404 - Not Found</title>
 </head>
 <body>
  <h1>404 - Not Found</h1>
 </body>
</html>
"""
NOT_FOUND_PAGE = render_page(404, _NOT_FOUND, Content_Type="text/html")


MOST_PAGES = 1000
"""Pages that are kept of each kind. A page takes more memory than the credentials in it and is quickly made
anew. Where each caller has credentials of its own, an SDK asks for them once, and again near their end.
"""


class CredentialPages:
    """The pages of the newest credentials, dropped together with them."""

    def __init__(self) -> None:
        self._plain: WeakKeyDictionary[Credentials, Page] = WeakKeyDictionary()
        self._extended: WeakKeyDictionary[Credentials, Page] = WeakKeyDictionary()

    @property
    def size(self) -> int:
        """How many pages are held."""
        return len(self._plain) + len(self._extended)

    def page_of(self, credentials: Credentials, *, is_extended: bool = False) -> Page:
        """Return what ROLE answers, `is_extended`: with the id of the account."""
        pages = self._extended if is_extended else self._plain
        page = pages.get(credentials)
        if page is None:
            if len(pages) >= MOST_PAGES:
                del pages[next(iter(pages))]
            body = render_credentials(credentials, is_extended=is_extended)
            page = pages[credentials] = render_ok(body, credentials.received)
        return page


def render_ok(body: bytes, last_modified: float, content_type: str = "text/plain") -> Page:
    """Return a page with the headers of every 200; `last_modified` is seconds UTC since 1970."""
    return render_page(
        200,
        body,
        Content_Type=content_type,
        Accept_Ranges="none",
        Last_Modified=formatdate(last_modified, usegmt=True),
    )


def render_credentials(credentials: Credentials, *, is_extended: bool = False) -> bytes:
    """Return the credential document: these keys in this order, as EC2 prints them."""
    return _render(
        {
            "Code": "Success",
            "LastUpdated": _utc(credentials.received),
            "Type": "AWS-HMAC",
            "AccessKeyId": credentials.access_key,
            "SecretAccessKey": credentials.secret_key,
            "Token": credentials.session_token,
            "Expiration": credentials.expiration,
        }
        | ({"AccountId": credentials.account_id} if is_extended else {})
    )


def render_profile(session: RoleSession, received: float) -> bytes:
    """Return `iam/info`. The ARN ends in the role's name: ec2-metadata (PyPI) takes it from there."""
    arn = f"arn:{session.partition}:iam::{session.account_id}:instance-profile/{session.role_name}"
    return _render(
        {
            "Code": "Success",
            "LastUpdated": _utc(received),
            "InstanceProfileArn": arn,
            "InstanceProfileId": "AIPA" + sha256(arn.encode()).hexdigest()[:17].upper(),
        }
    )


def render_identity(
    *,
    account_id: str | None,
    region: str,
    zone: str | None,
    image_id: str | None,
    instance_id: str | None,
    instance_type: str | None,
    address: str,
    pending: float,
) -> bytes:
    """Return `dynamic/instance-identity/document`; what is not known is null."""
    return _render(
        {
            "accountId": account_id,
            "architecture": "x86_64",
            "availabilityZone": zone,
            "billingProducts": None,
            "devpayProductCodes": None,
            "marketplaceProductCodes": None,
            "imageId": image_id,
            "instanceId": instance_id,
            "instanceType": instance_type,
            "kernelId": None,
            "pendingTime": _utc(pending),
            "privateIp": address,
            "ramdiskId": None,
            "region": region,
            "version": "2017-09-30",
        }
    )


def _render(values: Mapping[str, str | None]) -> bytes:
    # With `indent`, json works in Python, and leaves 3 KiB behind that only the garbage collector can free.
    lines = (f"  {json.dumps(key)} : {json.dumps(value)}" for key, value in values.items())
    return "{{\n{}\n}}".format(",\n".join(lines)).encode("ascii")


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
