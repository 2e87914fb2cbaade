"""LIST and ROLE: the role's name alone, the credential document to the byte, HEAD, and whose it is."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from tests.standins.wire import ROLES_PATH
from tests.web.machines import (
    ACCOUNT,
    BAR,
    BAR_NAME,
    BAR_ROLE,
    DUAL,
    FOO,
    FOO_NAME,
    FOO_ROLE,
    SIX,
    SIX_ROLE,
    V1,
    V2,
)

if TYPE_CHECKING:
    from tests.standins.little_sts import LittleSts
    from tests.standins.site_thread import RunningSite
    from tests.standins.wire import WireAnswer
    from tests.web.conftest import StartSite

UTC_TIME = r"20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\dZ"
PROFILE = "/latest/meta-data/iam/info"


def seconds_of(text: str) -> float:
    """Return a document's time as seconds since 1970."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


def without_date(answer: WireAnswer) -> list[tuple[str, str]]:
    """Return the headers that must not differ between two answers."""
    differing = {"date", "x-aws-ec2-metadata-token-ttl-seconds"}
    return [(name, value) for name, value in answer.headers if name.lower() not in differing]


@pytest.mark.parametrize("path", [ROLES_PATH, ROLES_PATH.rstrip("/"), ROLES_PATH + "/"])
def test_list_is_the_bare_name(path: str, shared_site: RunningSite) -> None:
    """One line without a newline: botocore would keep one as part of the name, others see two roles."""
    caller = shared_site.caller(FOO)
    token = caller.fetch_token()
    caller.fetch_role(token)
    answer = caller.get(path, token)
    assert (answer.status, answer.body) == (200, b"roleprefix-tuvfoo")


def test_the_document_to_the_byte(sts: LittleSts, start_site: StartSite) -> None:
    """Seven keys in EC2's order, two spaces, ` : `, whole seconds with a Z, no newline at the end."""
    caller = start_site().caller(FOO)
    token = caller.fetch_token()
    answer = caller.get(ROLES_PATH + caller.fetch_role(token), token)
    (key,) = sts.issued
    document = json.loads(answer.body)
    assert re.fullmatch(UTC_TIME, document["LastUpdated"])
    assert re.fullmatch(UTC_TIME, document["Expiration"])
    assert answer.text == (
        "{\n"
        '  "Code" : "Success",\n'
        f'  "LastUpdated" : "{document["LastUpdated"]}",\n'
        '  "Type" : "AWS-HMAC",\n'
        f'  "AccessKeyId" : "{key.access_key}",\n'
        f'  "SecretAccessKey" : "{key.secret_key}",\n'
        f'  "Token" : "{key.session_token}",\n'
        f'  "Expiration" : "{document["Expiration"]}"\n'
        "}"
    )
    assert seconds_of(document["LastUpdated"]) <= time.time()
    assert seconds_of(document["Expiration"]) - seconds_of(document["LastUpdated"]) >= 3595


def test_what_sts_is_asked(sts: LittleSts, start_site: StartSite) -> None:
    """One AssumeRole per caller, for its role, in a session named after it, for an hour."""
    site = start_site()
    for source in (FOO, BAR, FOO, BAR):
        caller = site.caller(source)
        token = caller.fetch_token()
        for _ in range(2):
            assert caller.get(ROLES_PATH + caller.fetch_role(token), token).status == 200
    asked = {(call["RoleArn"], call["RoleSessionName"], call["DurationSeconds"]) for call in sts.calls}
    assert asked == {
        (f"arn:aws:iam::{ACCOUNT}:role/{FOO_ROLE}", FOO_NAME, "3600"),
        (f"arn:aws:iam::{ACCOUNT}:role/{BAR_ROLE}", BAR_NAME, "3600"),
    }
    assert len(sts.calls) == 2


def test_everyone_gets_its_own(sts: LittleSts, start_site: StartSite) -> None:
    """Three callers, two address families: the role and the keys of each are its own."""
    site = start_site()
    for source, role in ((FOO, FOO_ROLE), (BAR, BAR_ROLE), (SIX, SIX_ROLE)):
        caller = site.caller(source, listener=DUAL)
        token = caller.fetch_token()
        assert caller.fetch_role(token) == role
        document = json.loads(caller.get(ROLES_PATH + role, token).body)
        (key,) = [key for key in sts.issued if key.role == role]
        assert document["AccessKeyId"] == key.access_key
        for other in {FOO_ROLE, BAR_ROLE, SIX_ROLE} - {role}:
            answer = caller.get(ROLES_PATH + other, token)
            assert (answer.status, answer.body) == (404, b"")


def test_a_role_without_a_list_before_it(start_site: StartSite) -> None:
    """A client that knows its role asks for it at once and is served."""
    caller = start_site().caller(FOO)
    answer = caller.settle(ROLES_PATH + FOO_ROLE, caller.fetch_token())
    assert json.loads(answer.body)["Code"] == "Success"


def test_profile(shared_site: RunningSite) -> None:
    """`iam/info` names an instance profile that ends in the role's name; in EC2's form, as all are."""
    caller = shared_site.caller(FOO)
    token = caller.fetch_token()
    caller.fetch_role(token)
    answer = caller.get(PROFILE, token)
    values = json.loads(answer.body)
    assert answer.text == (
        "{\n"
        '  "Code" : "Success",\n'
        f'  "LastUpdated" : "{values["LastUpdated"]}",\n'
        f'  "InstanceProfileArn" : "arn:aws:iam::{ACCOUNT}:instance-profile/{FOO_ROLE}",\n'
        f'  "InstanceProfileId" : "{values["InstanceProfileId"]}"\n'
        "}"
    )
    assert re.fullmatch("AIPA[A-Z0-9]{17}", values["InstanceProfileId"])


# --- HEAD ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        ROLES_PATH,
        ROLES_PATH + FOO_ROLE,
        ROLES_PATH + BAR_ROLE,
        PROFILE,
        "/",
        "/latest/",
        "/latest/meta-data/",
        "/latest/meta-data/iam/",
        "/latest/meta-data/instance-id",
        "/latest/meta-data/placement/region",
        "/latest/dynamic/instance-identity/document",
        "/latest/user-data",
        "/latest/meta-data/iam/nothing",
    ],
)
def test_head_is_get_without_the_body(path: str, shared_site: RunningSite) -> None:
    """The same status and headers, Content-Length of what GET would send included, and no body."""
    caller = shared_site.caller(FOO)
    token = caller.fetch_token()
    caller.fetch_role(token)
    get = caller.get(path, token)
    with caller.connected() as connection:
        for _ in range(2):
            connection.send(caller.render("HEAD", path, ("X-aws-ec2-metadata-token", token)))
            head = connection.read_answer(has_body=False)
            assert head.status == get.status
            assert without_date(head) == without_date(get)
        connection.send(
            caller.render("GET", path, ("X-aws-ec2-metadata-token", token), ("Connection", "close"))
        )
        assert connection.read_answer().body == get.body


def test_head_starts_nothing(sts: LittleSts, start_site: StartSite) -> None:
    """What is not known yet is an empty 503, and neither DNS nor STS is asked."""
    site = start_site()
    caller = site.caller(FOO, listener=V1)
    for path in (
        ROLES_PATH,
        ROLES_PATH + FOO_ROLE,
        PROFILE,
        "/latest/meta-data/",
        "/latest/meta-data/instance-id",
    ):
        answer = caller.ask("HEAD", path)
        assert (answer.status, answer.body) == (503, b"")
    assert caller.ask("HEAD", "/latest/meta-data/placement/region").status == 200
    assert sts.calls == []
    assert site.do(lambda: site.workshop.cache.size) == 0


def test_head_without_a_token(shared_site: RunningSite) -> None:
    """HEAD tells no more than GET would."""
    answer = shared_site.caller(FOO).ask("HEAD", ROLES_PATH)
    assert (answer.status, answer.header("Content-Length")) == (401, "0")


# --- IMDSv1 ----------------------------------------------------------------------------------------


def test_v1_where_it_is_on(shared_site: RunningSite) -> None:
    """Without a token all of it is served: boto 2, s3backer and cloud-init never send one."""
    caller = shared_site.caller(FOO, listener=V1)
    assert caller.settle(ROLES_PATH, None).body == FOO_ROLE.encode()
    assert json.loads(caller.get(ROLES_PATH + FOO_ROLE).body)["Code"] == "Success"


def test_v1_from_cold(sts: LittleSts, start_site: StartSite) -> None:
    """The first LIST starts what else the TOKEN would have started."""
    caller = start_site().caller(FOO, listener=V1)
    assert caller.settle(ROLES_PATH, None).body == FOO_ROLE.encode()
    assert len(sts.calls) == 1


def test_v1_where_it_is_off(shared_site: RunningSite) -> None:
    """401 and an empty body for all of it."""
    caller = shared_site.caller(FOO, listener=V2)
    for path in (ROLES_PATH, ROLES_PATH + FOO_ROLE, "/", "/latest/meta-data/placement/region"):
        answer = caller.get(path)
        assert (answer.status, answer.body) == (401, b"")


def test_a_wrong_token_is_not_none(shared_site: RunningSite) -> None:
    """Where IMDSv1 is on, a token that is wrong is still a 401: the client believes in it."""
    caller = shared_site.caller(FOO, listener=V1)
    for token in ("", "x", "A" * 56, shared_site.caller(BAR).fetch_token()):
        answer = caller.get(ROLES_PATH, token)
        assert (answer.status, answer.body) == (401, b"")


def test_tokens_hold_on_all_listeners(shared_site: RunningSite) -> None:
    """A token is the caller's, not the listener's."""
    token = shared_site.caller(FOO, listener=V2).fetch_token()
    caller = shared_site.caller(FOO, listener=V1)
    assert caller.fetch_role(token) == FOO_ROLE
    assert shared_site.caller(FOO, listener=DUAL).fetch_role(token) == FOO_ROLE
