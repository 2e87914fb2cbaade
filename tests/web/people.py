"""The people of these tests, what they may have, and the site that serves them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.standins.aws_process import Aws
from tests.standins.daemon import settings_for
from tests.standins.little_sign_in import LittleSignIn, running_little_sign_in
from tests.standins.little_sts import LittleSts, running_little_sts
from tests.standins.people_wire import PeopleCaller
from tests.standins.site_thread import RunningSite, running_site

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.wire import Header

BASE = "/afp-api/latest"
PUBLIC = "https://afp.valid.example/afp-api/latest"
PORTAL = "https://portal.valid.example/back"

USER_HEADER, SECRET_HEADER, SECRET = (
    "X-Remote-User",
    "X-Imds-Proxy-Secret",
    "the-proxy's-own-secret-of-32-characters",
)
PROXY, OUTSIDE, STRANGER = "127.0.0.1", "127.0.0.66", "127.0.0.2"
"""A trusted proxy; an address in `callers_except`; one that may ask but is no proxy."""

ACCOUNT_ID = "000123456789"
GROUPS = {
    "main-reader": ["alice", "bob", "jürgen müller"],
    "main-admin": ["alice"],
    "other-reader": ["alice"],
    "noid-reader": ["alice"],
    "od/d-reader": ["alice"],
    "main-no role": ["alice"],
}
"""Who is in which group; an account and a role are what is before and after the last hyphen."""

ALICE: dict[str, list[str]] = {
    "main": ["admin", "no role", "reader"],
    "noid": ["reader"],
    "od/d": ["reader"],
    "other": ["reader"],
}


@dataclass
class PeopleWorld:
    """A site for people, and the AWS behind it."""

    site: RunningSite
    sts: LittleSts
    sign_in: LittleSignIn

    def proxy(self, user: str | None = "alice", *, listener: int = 0, source: str = PROXY) -> PeopleCaller:
        """Return the trusted proxy, which says that `user` is asking; None: it says nothing."""
        headers: tuple[Header, ...] = ((SECRET_HEADER, SECRET),)
        if user is not None:
            headers += ((USER_HEADER, user),)
        return self.caller(*headers, listener=listener, source=source)

    def caller(self, *headers: Header, listener: int = 0, source: str = PROXY) -> PeopleCaller:
        """Return a caller that sends these headers."""
        return PeopleCaller(("127.0.0.1", self.site.ports[listener]), source, headers)

    @property
    def calls(self) -> int:
        """How often AWS was asked for anything."""
        return len(self.sts.calls) + len(self.sign_in.paths)


def people_settings(sts: LittleSts, sign_in: LittleSignIn, folder: Path, **changes: object) -> dict[str, Any]:
    """Return settings of a site for people alone; `changes` replace keys of `people`."""
    secret = folder / "proxy-secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET + "\n")
    aws = Aws(sts.url, "AKIAEXAMPLE", "our/own/secret/key")
    sections = settings_for(
        aws,
        aws_extra={"signin_endpoint": sign_in.url},
        providers={
            "people": {"type": "by_groups", "regex": "^(?P<account>.*)-(?P<role>.*)$", "groups": GROUPS}
        },
        accounts={
            "main": {"id": ACCOUNT_ID},
            "other": {"id": "123456789012"},
            "od/d": {"id": "210987654321"},
        },
        deny=["mallory"],
        people={
            "listen": [{"address": "127.0.0.1:0", "callers_except": [f"{OUTSIDE}/32"]}],
            "base_path": BASE,
            "public_url": PUBLIC,
            "callback_urls": [PORTAL],
            "identity": {"header": USER_HEADER, "trusted": [PROXY], "secret_file": str(secret)},
            **changes,
        },
    )
    del sections["listen"]
    return sections


@contextmanager
def running_people(folder: Path, **changes: object) -> Iterator[PeopleWorld]:
    """Serve people for the length of the block; `changes` replace keys of `people`."""
    with running_little_sts() as sts, running_little_sign_in() as sign_in:
        settings = people_settings(sts, sign_in, folder, **changes)
        with running_site(settings, folder) as site:
            yield PeopleWorld(site, sts, sign_in)
