"""What can be read: headers, versions, listings, slashes, leaves, unknown paths."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.standins.wire import WireCaller, pairs
from tests.web.machines import (
    ACCOUNT,
    BAR,
    BAR_ROLE,
    DENIED,
    DUAL,
    FOO,
    FOO_NAME,
    FOO_ROLE,
    FOREIGN,
    NAMELESS,
    REGION,
    SIX,
    SIX_NAME,
    SIX_ROLE,
    V1,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.standins.little_sts import LittleSts
    from tests.standins.site_thread import RunningSite
    from tests.web.conftest import StartSite

DATES = (
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2018-03-28",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
)
VERSIONS = ["1.0", *DATES, "latest"]
UTC_TIME = r"20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\dZ"

NOT_FOUND = (
    b'<?xml version="1.0" encoding="iso-8859-1"?>\n'
    b'<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"\n'
    b'\t"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n'
    b'<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">\n'
    b" <head>\n  <title>404 - Not Found</title>\n </head>\n"
    b" <body>\n  <h1>404 - Not Found</h1>\n </body>\n</html>\n"
)


@pytest.fixture
def caller(shared_site: RunningSite) -> WireCaller:
    """FOO, which has a role, at the listener that takes no requests without a token."""
    caller = shared_site.caller(FOO)
    caller.fetch_role()
    return caller


@pytest.fixture
def token(caller: WireCaller) -> str:
    """A token of FOO's."""
    return caller.fetch_token()


# --- headers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/latest/meta-data/placement/region",
        "/latest/meta-data/",
        "/latest/meta-data/iam/security-credentials/",
        f"/latest/meta-data/iam/security-credentials/{FOO_ROLE}",
        "/latest/dynamic/instance-identity/document",
        "/",
    ],
)
def test_headers_of_a_200(path: str, caller: WireCaller) -> None:
    """Type, ranges, times, length and server as EC2 says them, and the token's remaining life."""
    answer = caller.get(path, caller.fetch_token(600))
    assert (answer.status, answer.reason) == (200, "OK")
    headers = pairs(answer.headers)
    assert headers.keys() == {
        "server",
        "content-type",
        "accept-ranges",
        "last-modified",
        "content-length",
        "date",
        "x-aws-ec2-metadata-token-ttl-seconds",
    }
    date = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} 20\d\d \d\d:\d\d:\d\d GMT"
    assert re.fullmatch(date, headers["last-modified"])
    assert re.fullmatch(date, headers["date"])
    assert headers["server"] == "EC2ws"
    assert headers["content-type"] == "text/plain"
    assert headers["accept-ranges"] == "none"
    assert headers["content-length"] == str(len(answer.body))
    assert 590 <= int(headers["x-aws-ec2-metadata-token-ttl-seconds"]) <= 600


def test_headers_of_a_v1_answer(shared_site: RunningSite) -> None:
    """Without a token there is no remaining life to say."""
    answer = shared_site.caller(FOO, listener=V1).get("/latest/meta-data/placement/region")
    assert answer.status == 200
    assert answer.header("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") is None


# --- versions and listings -------------------------------------------------------------------------


def test_versions(caller: WireCaller, token: str) -> None:
    """`/` lists 1.0, the dates and latest, without slashes and without a newline at the end."""
    for path in ("", "/"):
        answer = caller.get(path or "/", token)
        assert answer.body == "\n".join(VERSIONS).encode()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_serves_the_tree(version: str, caller: WireCaller, token: str) -> None:
    """Dated versions show what latest shows."""
    for path in ("", "/meta-data/", "/meta-data/iam/", "/meta-data/placement/region", "/dynamic"):
        assert caller.get(f"/{version}{path}", token).body == caller.get(f"/latest{path}", token).body
    role = caller.get(f"/{version}/meta-data/iam/security-credentials/", token)
    assert (role.status, role.body) == (200, FOO_ROLE.encode())


@pytest.mark.parametrize(
    ("path", "entries"),
    [
        ("/latest", "dynamic meta-data"),
        (
            "/latest/meta-data",
            "ami-id ami-launch-index hostname iam/ instance-action instance-id instance-life-cycle"
            " instance-type local-hostname local-ipv4 placement/ profile reservation-id security-groups"
            " services/",
        ),
        ("/latest/meta-data/iam", "info security-credentials/"),
        ("/latest/meta-data/iam/security-credentials", FOO_ROLE),
        ("/latest/meta-data/placement", "availability-zone region"),
        ("/latest/meta-data/services", "domain partition"),
        ("/latest/dynamic", "instance-identity/"),
        ("/latest/dynamic/instance-identity", "document"),
    ],
)
def test_listings(path: str, entries: str, caller: WireCaller, token: str) -> None:
    """Entries one a line, directories with a slash, no newline at the end; with and without a slash."""
    for spelling in (path, path + "/", path + "//"):
        answer = caller.get(spelling, token)
        assert (answer.status, answer.body) == (200, entries.replace(" ", "\n").encode())


@pytest.mark.parametrize(
    ("source", "listener"), [(FOO, V1), (BAR, V1), (FOREIGN, V1), (DENIED, V1), (SIX, DUAL), (FOO, DUAL)]
)
def test_all_that_is_listed_is_served(source: str, listener: int, shared_site: RunningSite) -> None:
    """A crawl as cloud-init does it finds a 200 at every leaf: one 404 would lose it the whole tree."""
    caller = shared_site.caller(source, listener=listener)
    caller.settle("/latest/meta-data/iam/security-credentials/", None)
    leaves = dict(crawl(caller, "/latest/meta-data/")) | dict(crawl(caller, "/latest/dynamic/"))
    assert "/latest/meta-data/instance-id" in leaves
    assert "/latest/dynamic/instance-identity/document" in leaves
    has_role = any("security-credentials/" in path for path in leaves)
    assert has_role == (source in (FOO, BAR, SIX))


def crawl(caller: WireCaller, path: str) -> Iterator[tuple[str, bytes]]:
    """Yield path and body of everything that is listed at or below a directory."""
    answer = caller.get(path)
    assert answer.status == 200, (path, answer)
    for entry in answer.text.split("\n"):
        below = path + entry
        if entry.endswith("/"):
            yield from crawl(caller, below)
        else:
            leaf = caller.get(below)
            assert leaf.status == 200, (below, leaf)
            assert leaf.body
            yield below, leaf.body
            if below == "/latest/meta-data/iam/security-credentials/":
                yield from crawl(caller, below)


# --- slashes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "//latest/meta-data/placement/availability-zone",
        "/latest/meta-data/placement/availability-zone/",
        "///latest///meta-data///placement///availability-zone///",
        "/latest/meta-data/placement/availability-zone?x=/y",
        "/latest/meta-data/%70lacement/availability-zone",
    ],
)
def test_slashes_of_leaves(path: str, caller: WireCaller, token: str) -> None:
    """A leaf answers with a slash too (botocore), repeated slashes are one, a query does not matter."""
    answer = caller.get(path, token)
    assert (answer.status, answer.body) == (200, f"{REGION}a".encode())


@pytest.mark.parametrize("path", ["{0}{1}", "/{0}{1}", "{0}/{1}", "{0}//{1}/", "{0}{1}?query"])
def test_slashes_of_the_role(path: str, caller: WireCaller, token: str) -> None:
    """`security-credentials//ROLE` and its like lead to the role: minio-js and JS v3 double slashes."""
    answer = caller.get(path.format("/latest/meta-data/iam/security-credentials/", FOO_ROLE), token)
    assert answer.status == 200
    assert json.loads(answer.body)["Code"] == "Success"


@pytest.mark.parametrize(
    "path",
    [
        "/latest/meta-data/../meta-data/placement/region",
        "/latest/./meta-data/placement/region",
        "/latest/meta-data%2Fplacement/region",
        "/latest/meta-data/placement/region%00",
        "/latest/meta-data/placement/region%0a",
        "/latest/meta-data/placement%252Fregion",
        "/LATEST/meta-data/placement/region",
        "/latest/meta-data/placement/region;x",
    ],
)
def test_paths_are_taken_as_they_stand(path: str, caller: WireCaller, token: str) -> None:
    """No dot segments, no second decoding, `%2F` is no slash, case matters."""
    answer = caller.get(path, token)
    assert (answer.status, answer.body) == (404, NOT_FOUND)


# --- leaves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("placement/region", REGION),
        ("placement/availability-zone", f"{REGION}a"),
        ("ami-id", "ami-00000000000000000"),
        ("ami-launch-index", "0"),
        ("hostname", FOO_NAME),
        ("instance-action", "none"),
        ("instance-life-cycle", "on-demand"),
        ("instance-type", "bare.metal"),
        ("profile", "default-hvm"),
        ("security-groups", "default"),
        ("services/domain", "amazonaws.com"),
        ("services/partition", "aws"),
        ("local-hostname", FOO_NAME),
        ("local-ipv4", FOO),
    ],
)
def test_leaves(path: str, value: str, caller: WireCaller, token: str) -> None:
    """Region, zone (region + `a`), the confirmed name, the address; no newline."""
    answer = caller.get(f"/latest/meta-data/{path}", token)
    assert (answer.status, answer.body) == (200, value.encode())


def test_instance_id(shared_site: RunningSite, caller: WireCaller, token: str) -> None:
    """`i-` and 17 hex digits, always the same for a machine and another one for another machine."""
    first = caller.get("/latest/meta-data/instance-id", token).text
    assert re.fullmatch("i-[0-9a-f]{17}", first)
    assert caller.get("/1.0/meta-data/instance-id", token).text == first
    bar = shared_site.caller(BAR)
    assert bar.settle("/latest/meta-data/instance-id", bar.fetch_token()).text != first


def test_identity_document(caller: WireCaller, token: str) -> None:
    """These keys in this order, `"key" : "value"` with two spaces before it; the account is the grant's."""
    answer = caller.get("/latest/dynamic/instance-identity/document", token)
    instance_id = caller.get("/latest/meta-data/instance-id", token).text
    values = json.loads(answer.body)
    expected = [
        ("accountId", ACCOUNT),
        ("architecture", values["architecture"]),
        ("availabilityZone", f"{REGION}a"),
        ("billingProducts", None),
        ("devpayProductCodes", None),
        ("marketplaceProductCodes", None),
        ("imageId", "ami-00000000000000000"),
        ("instanceId", instance_id),
        ("instanceType", "bare.metal"),
        ("kernelId", None),
        ("pendingTime", values["pendingTime"]),
        ("privateIp", FOO),
        ("ramdiskId", None),
        ("region", REGION),
        ("version", "2017-09-30"),
    ]
    lines = [f'  "{name}" : {json.dumps(value)}' for name, value in expected]
    assert answer.text == "{\n" + ",\n".join(lines) + "\n}"
    assert re.fullmatch(UTC_TIME, values["pendingTime"])


def test_the_extended_document(caller: WireCaller, token: str) -> None:
    """LIST and ROLE as of the other one, with the account's id at the end; it is not listed."""
    path = "/latest/meta-data/iam/security-credentials-extended/"
    plain = json.loads(caller.get(f"/latest/meta-data/iam/security-credentials/{FOO_ROLE}", token).body)
    for spelling in (path, path.rstrip("/")):
        answer = caller.get(spelling, token)
        assert (answer.status, answer.text) == (200, FOO_ROLE)
    answer = caller.get(path + FOO_ROLE, token)
    assert list(json.loads(answer.body).items()) == [*plain.items(), ("AccountId", ACCOUNT)]


def test_ipv6_caller(shared_site: RunningSite) -> None:
    """An IPv6 caller has no `local-ipv4`, not listed and not served, and gets its own role."""
    caller = shared_site.caller(SIX, listener=DUAL)
    token = caller.fetch_token()
    assert caller.fetch_role(token) == SIX_ROLE
    listed = caller.get("/latest/meta-data/", token).text.split("\n")
    assert "ipv6" in listed
    assert "local-ipv4" not in listed
    assert caller.get("/latest/meta-data/ipv6", token).text == SIX
    assert caller.get("/latest/meta-data/local-ipv4", token).status == 404
    assert caller.get("/latest/meta-data/local-hostname", token).text == SIX_NAME
    document = json.loads(caller.get("/latest/dynamic/instance-identity/document", token).body)
    assert document["privateIp"] == SIX


# --- what is not there -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/latest/user-data",
        "/2009-04-04/user-data",
        "/latest/meta-data/mac",
        "/latest/meta-data/network/",
        "/latest/meta-data/public-keys/",
        "/latest/meta-data/tags/",
        "/latest/meta-data/tags/instance/Name",
        "/latest/meta-data/ipv6",
        "/latest/meta-data/placement/group-name",
        "/latest/meta-data/placement/region/deeper",
        "/latest/meta-data/instance-id/deeper",
        "/latest/dynamic/fws",
        "/latest/api",
        "/latest/api/token/deeper",
        "/2009-04-05/meta-data/",
        "/favicon.ico",
        "/index.html",
    ],
)
def test_unknown_paths(path: str, caller: WireCaller, token: str) -> None:
    """404 with EC2's short XHTML page; user-data is not there either."""
    answer = caller.get(path, token)
    assert (answer.status, answer.reason, answer.body) == (404, "Not Found", NOT_FOUND)
    assert answer.header("Content-Type") == "text/html"


@pytest.mark.parametrize(
    "path",
    [
        "/latest/meta-data/iam/nothing",
        "/latest/meta-data/iam/info/deeper",
        f"/latest/meta-data/iam/security-credentials/{BAR_ROLE}",
        f"/latest/meta-data/iam/security-credentials/{FOO_ROLE}/deeper",
        f"/latest/meta-data/iam/security-credentials/{FOO_ROLE}%2F",
        f"/latest/meta-data/iam/security-credentials/{FOO_ROLE.upper()}",
        f"/latest/meta-data/iam/security-credentials-extended/{BAR_ROLE}",
        "/latest/meta-data/iam/security-credentials-extendedx/",
    ],
)
def test_unknown_paths_below_iam(path: str, caller: WireCaller, token: str) -> None:
    """404 with an empty body: GDAL and awscrt would take a page for a role's name."""
    answer = caller.get(path, token)
    assert (answer.status, answer.body, answer.header("Content-Type")) == (404, b"", None)


@pytest.mark.parametrize(
    "path", ["/latest/user-data", "/latest/meta-data/events", "/latest/dynamic/fws", "/x"]
)
def test_unknown_paths_need_no_verdict(path: str, shared_site: RunningSite) -> None:
    """What is there for nobody is a 404 also while DNS fails: cloud-init reads user-data first of all."""
    caller = shared_site.caller(NAMELESS, listener=V1)
    answer = caller.get(path)
    assert (answer.status, answer.body) == (404, NOT_FOUND)


def test_unknown_paths_start_nothing(start_site: StartSite, sts: LittleSts) -> None:
    """Nobody asks STS because of a path that is there for nobody, or that shows nothing about the caller."""
    caller = start_site().caller(FOO, listener=V1)
    for path in ("/latest/user-data", "/latest/meta-data/iam/other/"):
        assert caller.get(path).status == 404
    for path in (
        "/",
        "/latest/",
        "/latest/dynamic/",
        "/latest/meta-data/placement/",
        "/latest/meta-data/local-ipv4",
        "/latest/meta-data/ami-id",
        "/latest/meta-data/instance-type",
        "/latest/meta-data/services/",
    ):
        assert caller.get(path).status == 200
    assert sts.calls == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods(method: str, caller: WireCaller, token: str) -> None:
    """GET and HEAD alone; the rest is an empty 405 that says so, on any path."""
    for path in (
        "/latest/meta-data/",
        "/latest/meta-data/iam/security-credentials/",
        "/x",
        "/latest/user-data",
    ):
        answer = caller.ask(method, path, token=token)
        assert (answer.status, answer.reason, answer.body) == (405, "Not Allowed", b"")
        assert answer.header("Allow") == "GET, HEAD"


# --- connections -----------------------------------------------------------------------------------


def test_many_requests_on_one_connection(caller: WireCaller, token: str) -> None:
    """A connection stays open, also after errors."""
    targets = ["/latest/meta-data/placement/region", "/nothing", "/latest/meta-data/iam/nothing", "/latest/"]
    with caller.connected() as connection:
        for target in targets * 3:
            connection.send(caller.render("GET", target, ("X-aws-ec2-metadata-token", token)))
            answer, alone = connection.read_answer(), caller.get(target, token)
            assert (answer.status, answer.body) == (alone.status, alone.body)


def test_pipelined_requests(caller: WireCaller, token: str) -> None:
    """Requests that are sent together are answered one by one, in their order."""
    targets = [
        "/latest/meta-data/placement/region",
        "/latest/meta-data/local-ipv4",
        "/latest/meta-data/iam/x",
    ]
    header = ("X-aws-ec2-metadata-token", token)
    with caller.connected() as connection:
        connection.send(b"".join(caller.render("GET", target, header) for target in targets))
        answers = [connection.read_answer() for _ in targets]
    assert [(answer.status, answer.body) for answer in answers] == [
        (200, REGION.encode()),
        (200, FOO.encode()),
        (404, b""),
    ]


@pytest.mark.parametrize(
    ("version", "header", "stays_open"),
    [
        ("1.1", "close", False),
        ("1.1", "keep-alive", True),
        ("1.0", "close", False),
        ("1.0", "keep-alive", True),
    ],
)
def test_connection_header(
    version: str, header: str, stays_open: bool, caller: WireCaller, token: str
) -> None:
    """A client that asks to close gets what is sent and then the end; one that does not may go on."""
    request = caller.render(
        "GET",
        "/latest/meta-data/placement/region",
        ("X-aws-ec2-metadata-token", token),
        ("Connection", header),
        version=version,
    )
    with caller.connected() as connection:
        connection.send(request)
        answer = connection.read_answer()
        assert answer.body == REGION.encode()
        if stays_open:
            connection.send(request)
            assert connection.read_answer().body == REGION.encode()
        else:
            assert answer.header("Connection") == "close"
            assert connection.read_to_end() == b""
