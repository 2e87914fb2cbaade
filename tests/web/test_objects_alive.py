"""Bounded means: objects alive, at a real site: connections, requests, reloads, labels of metrics.

As in the unit tests of the same name, objects are counted with the garbage collector off.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import time
from asyncio.sslproto import SSLProtocol
from typing import TYPE_CHECKING

import pytest
import uvloop
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from imds_proxy.broker import Broker
from imds_proxy.caller import Identities, Identity
from imds_proxy.metadata.levels import Levels, RememberedValues
from imds_proxy.metrics import Metrics, Tally
from imds_proxy.site import Site
from imds_proxy.standing import Standing
from imds_proxy.verdict import Judge, Verdict
from imds_proxy.web.container import ContainerService
from imds_proxy.web.edge.conversation import Conversation
from imds_proxy.web.edge.guard import Guard
from imds_proxy.web.imds import MetadataService
from tests.standins.authority import Authority
from tests.standins.people_wire import PeopleCaller
from tests.standins.wire import PATIENCE
from tests.web.machines import BAR, FOO, FOO_ROLE, LISTENERS, V1, site_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.standins.little_sts import LittleSts
    from tests.standins.site_thread import RunningSite
    from tests.web.conftest import StartSite

CONNECTIONS = 200


def count(*kinds: type) -> list[int]:
    found = [type(one) for one in gc.get_objects()]
    return [found.count(kind) for kind in kinds]


def await_end(site: RunningSite) -> None:
    """Return when no connection is open any more."""
    end = time.monotonic() + PATIENCE
    while site.do(lambda: sum(len(listener.connections) for listener in site.listeners)):
        assert time.monotonic() < end, "connections stay open"
        time.sleep(0.01)


def ask_in_all_ways(site: RunningSite, number: int) -> None:
    """Ask on a connection: well, badly, not to the end, or as a stranger."""
    caller = site.caller((FOO, BAR)[number % 2], listener=V1)
    requests = (
        caller.render("PUT", "/latest/api/token", ("X-aws-ec2-metadata-token-ttl-seconds", "60")),
        caller.render("GET", "/latest/meta-data/iam/security-credentials/"),
        caller.render("GET", f"/latest/meta-data/iam/security-credentials/{FOO_ROLE}"),
        caller.render("GET", f"/latest/meta-data/{number}"),
        caller.render("GET", "/latest/dynamic/instance-identity/document", ("X-Odd", "1")),
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        b"\x16\x03\x01nonsense\r\n\r\n",
        b"",
    )
    with caller.connected() as connection:
        connection.send(requests[number % len(requests)])
        if number % len(requests) < 5:
            connection.read_answer()


def test_connections_and_requests(start_site: StartSite) -> None:
    """What a connection had is gone with it, however it ended; also what aiohttp made of it."""
    site = start_site(listen=LISTENERS[:2])
    kinds = (Conversation, RequestHandler, BaseRequest)
    ask_in_all_ways(site, 4)
    await_end(site)
    gc.collect()
    before = count(*kinds)
    gc.disable()
    try:
        for number in range(CONNECTIONS):
            ask_in_all_ways(site, number)
        await_end(site)
        assert [now - then for now, then in zip(count(*kinds), before, strict=True)] == [0, 0, 0]
    finally:
        gc.enable()


def test_reloads(start_site: StartSite, sts: LittleSts) -> None:
    """Of a configuration that is in force no more, nothing is left, nor of what its callers were."""
    listen = [*LISTENERS[:2], {"address": "127.0.0.1:0", "container": {"token": False}}]
    site = start_site(listen=listen)
    kinds = (
        *(Site, Broker, Judge, Identities, Identity, Standing, Verdict, MetadataService, ContainerService),
        *(Guard, Levels, RememberedValues),
    )
    gc.collect()
    before = count(*kinds)
    gc.disable()
    try:
        for _ in range(10):
            for source in (FOO, BAR):
                site.caller(source, listener=V1).fetch_role()
                assert site.caller(source, listener=2).get("/v1/credentials").status == 200
                assert site.caller(source, listener=V1).get("/latest/meta-data/hostname").status == 200
            site.replace(site_settings(sts, listen=listen))
        await_end(site)
        assert count(*kinds) == before
    finally:
        gc.enable()


def series_of(metrics: Metrics) -> int:
    return sum(len(one.counts) for one in vars(metrics).values() if isinstance(one, Tally))


def test_labels_of_metrics(start_site: StartSite) -> None:
    """None of them is what a caller chose: paths, methods, hosts, roles and versions make no new series."""
    site = start_site(listen=LISTENERS[:2])

    def ask(first: int) -> None:
        for number in range(first, first + 50):
            caller = site.caller((FOO, BAR)[number % 2], listener=V1)
            for request in (
                caller.render("GET", f"/latest/meta-data/{number}"),
                caller.render("GET", f"/{number}/meta-data/"),
                caller.render("GET", f"/latest/meta-data/iam/security-credentials/role-{number}"),
                caller.render(f"ODD{number}", "/latest/meta-data/"),
                caller.render("GET", "/latest/meta-data/", ("X-Forwarded-For", f"10.0.0.{number}")),
                f"GET / HTTP/1.1\r\nHost: host-{number}.example\r\n\r\n".encode(),
                f"GET / HTTP/{number}\r\nHost: a\r\n\r\n".encode(),
            ):
                caller.exchange(request)

    ask(0)
    before = series_of(site.metrics)
    ask(1000)
    assert series_of(site.metrics) == before


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[None]:
    """Sites run on one loop and on the other."""
    asyncio.set_event_loop_policy(request.param())
    yield
    asyncio.set_event_loop_policy(None)


@pytest.mark.usefixtures("loop")
def test_connections_with_tls(start_site: StartSite, tmp_path: Path) -> None:
    """Also those whose handshake never ends or fails, and handshakes that wait for their turn."""
    authority = Authority(tmp_path)
    issued = authority.issue("machines")
    tls = {"certificate": str(issued.certificate), "key": str(issued.key)}
    site = start_site(listen=[{"address": "127.0.0.1:0", "imds_v1": True, "tls": tls}])
    context = ssl.create_default_context(cafile=str(authority.certificate))
    caller = PeopleCaller(("127.0.0.1", site.ports[0]), FOO, tls=context)
    kinds = (Conversation, RequestHandler, SSLProtocol, asyncio.Task)

    def connect(number: int) -> None:
        if number % 3 == 0:
            caller.fetch_token()
            return
        with socket.create_connection(caller.server, PATIENCE, (caller.source, 0)) as half:
            if number % 3 == 1:
                half.sendall(b"\x16\x03\x01\x02\x00\x01")
            half.sendall(b"no TLS")

    def await_handshakes() -> None:
        await_end(site)
        end = time.monotonic() + PATIENCE
        while site.do(lambda: len(asyncio.all_tasks())) > 3:
            assert time.monotonic() < end, "handshakes go on"
            time.sleep(0.01)

    for number in range(3):
        connect(number)
    await_handshakes()
    gc.collect()
    before = count(*kinds)
    gc.disable()
    try:
        for number in range(CONNECTIONS // 2):
            connect(number)
        await_handshakes()
        assert [now - then for now, then in zip(count(*kinds), before, strict=True)] == [0] * len(kinds)
    finally:
        gc.enable()
