"""An AWS of one's own: moto with signatures enforced, and a strict front before its STS.

`python -m tests.standins.aws` prints one line of JSON, `{"url", "access_key_id", "secret_access_key"}`,
and serves until SIGTERM. STS, IAM and S3 requests go to moto as they came; AssumeRole is first
checked for what moto lets through (`strict_sts`), recorded, and may suffer faults (`sts_faults`).
Expired session keys are refused for every service. Unsigned requests to these paths steer it:

    GET    /calls     the AssumeRole calls since the last reset
    GET    /counts    how many requests of each kind arrived
    GET    /issued    every session that was ever issued, secrets and all: for an S3 of somebody else's
    DELETE /calls     forget calls and counts
    POST   /faults    [{"kind", "seconds", "role", "times"}, ...]: exactly these are on from now
    POST   /roles     [{"name", "account", ...}, ...], see aws_world.RoleSpecification
    DELETE /roles     [{"name", "account"}, ...]
    POST   /users     {"name", "account", "policies"}, see aws_world.UserSpecification
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, web
from yarl import URL

from tests.standins.aws_world import RoleSpecification, UserSpecification, World
from tests.standins.strict_sts import AssumeRole, Signer, StsError, check_parameters, check_role
from tests.standins.sts_faults import EMPTY, ERRORS, MALFORMED, Fault, Faults

_CREDENTIAL = re.compile(r"AWS4-HMAC-SHA256 Credential=([A-Za-z0-9]+)/\d{8}/[\w-]+/([\w-]+)/aws4_request,")
_HOP_BY_HOP = frozenset(
    {"connection", "date", "expect", "keep-alive", "server", "te", "transfer-encoding", "upgrade"}
)
_LONGEST_HANG = 300


@dataclass(frozen=True)
class Call:
    """One AssumeRole as it arrived, and how it ended: `ok`, an error code, or a fault's kind."""

    at: float
    signer: str
    role_arn: str
    session_name: str
    duration: int
    tags: dict[str, str]
    policy: str | None
    external_id: str | None
    source_identity: str | None
    outcome: str = "unanswered"
    access_key_id: str | None = None


@dataclass(frozen=True)
class Answer:
    """What moto answered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Front:
    """The strict front: control, checks, faults, and everything else on to moto."""

    def __init__(self, world: World, upstream: ClientSession) -> None:
        self._world = world
        self._upstream = upstream
        self._faults = Faults()
        self._calls: list[Call] = []
        self._counts: Counter[str] = Counter()
        self._expiries: dict[str, float] = {}
        self._issued: list[dict[str, object]] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request of whatever kind."""
        credential = _CREDENTIAL.match(request.headers.get("Authorization", ""))
        if credential is None:
            return await self._control(request)
        access_key_id, service = credential.groups()
        body = await request.read()
        form = dict(parse_qsl(body.decode("latin-1"), keep_blank_values=True)) if service == "sts" else {}
        self._counts[form.get("Action", service)] += 1
        if self._expiries.get(access_key_id, float("inf")) <= time.time():
            return _error(
                StsError(403, "ExpiredToken", "The security token included in the request is expired")
            )
        if form.get("Action") == "AssumeRole":
            return await self._assume_role(request, access_key_id, body)
        return _pass_on(await self._ask_moto(request, body))

    async def _control(self, request: web.BaseRequest) -> web.Response:
        try:
            match (request.method, request.path):
                case ("GET", "/calls" | "/counts" | "/issued"):
                    return web.json_response(self._report(request.path))
                case ("DELETE", "/calls"):
                    self._calls.clear()
                    self._counts.clear()
                case ("POST", "/faults"):
                    self._faults.replace(await request.json())
                case ("POST", "/roles"):
                    wanted = [RoleSpecification(**role) for role in await request.json()]
                    return web.json_response([self._world.add_role(role) for role in wanted])
                case ("POST", "/users"):
                    return web.json_response(self._world.add_user(UserSpecification(**await request.json())))
                case ("DELETE", "/roles"):
                    for role in await request.json():
                        self._world.remove_role(**role)
                case _:
                    self._counts["unsigned"] += 1
                    return _error(
                        StsError(403, "MissingAuthenticationToken", "Request is missing Authentication Token")
                    )
        except (TypeError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({})

    def _report(self, path: str) -> object:
        if path == "/calls":
            return [asdict(call) for call in self._calls]
        return self._counts if path == "/counts" else self._issued

    async def _assume_role(
        self, request: web.BaseRequest, access_key_id: str, body: bytes
    ) -> web.StreamResponse:
        # The query protocol is UTF-8; a name outside the alphabet must reach the checks as it was meant.
        form = dict(parse_qsl(body.decode("utf-8", errors="replace"), keep_blank_values=True))
        try:
            call = AssumeRole.parse(form)
        except StsError as error:
            return _error(error)
        index = self._record(call, access_key_id)
        signer = self._world.signer(access_key_id)
        faults = self._faults.take(call.role_name)
        for fault in faults:
            if fault.kind == "delay":
                await asyncio.sleep(fault.seconds)
            elif fault.kind != "lifetime":
                self._finish(index, fault.kind)
                return await _show(fault, request, call, signer)
        try:
            if signer is not None:  # moto refuses unknown keys and wrong signatures
                check_parameters(call)
                role = self._world.role(call.role_arn, call.account_id)
                check_role(call, signer, role, {"aws:sourceip": request.remote or ""})
        except StsError as error:
            self._finish(index, error.code)
            return _error(error)
        answer = await self._ask_moto(request, body)
        lifetimes = [fault.seconds for fault in faults if fault.kind == "lifetime"]
        if answer.status == 200:
            answer = self._issue(index, call, answer, lifetimes[0] if lifetimes else call.duration)
            carried = call.source_identity or (signer.source_identity if signer else None)
            self._world.set_source_identity(_text_between(answer.body, "AccessKeyId") or "", carried)
        else:
            self._finish(index, _text_between(answer.body, "Code") or str(answer.status))
        return _pass_on(answer)

    def _record(self, call: AssumeRole, signer: str) -> int:
        self._calls.append(
            Call(
                at=time.time(),
                signer=signer,
                role_arn=call.role_arn,
                session_name=call.session_name,
                duration=call.duration,
                tags=dict(call.tags),
                policy=call.policy,
                external_id=call.external_id,
                source_identity=call.source_identity,
            )
        )
        return len(self._calls) - 1

    def _finish(self, index: int, outcome: str, access_key_id: str | None = None) -> None:
        if index < len(self._calls):  # a reset may have come in between
            self._calls[index] = replace(self._calls[index], outcome=outcome, access_key_id=access_key_id)

    def _issue(self, index: int, call: AssumeRole, answer: Answer, lifetime: float) -> Answer:
        access_key_id = _text_between(answer.body, "AccessKeyId")
        assert access_key_id is not None
        expiry = int(time.time() + lifetime)
        self._expiries[access_key_id] = expiry
        self._finish(index, "ok", access_key_id)
        self._issued.append(
            {
                "access_key_id": access_key_id,
                "secret_access_key": _text_between(answer.body, "SecretAccessKey"),
                "session_token": _text_between(answer.body, "SessionToken"),
                "expires_at": expiry,
                "role_arn": call.role_arn,
                "session_name": call.session_name,
            }
        )
        stamp = datetime.fromtimestamp(expiry, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = re.sub(rb"<Expiration>[^<]*<", f"<Expiration>{stamp}<".encode(), answer.body)
        return replace(answer, body=body)

    async def _ask_moto(self, request: web.BaseRequest, body: bytes) -> Answer:
        # The path and the headers, Host above all, are what was signed: not a byte may change.
        url = URL(self._world.url + request.raw_path, encoded=True)
        headers = [
            (name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP
        ]
        async with self._upstream.request(
            request.method, url, headers=headers, data=body or None, allow_redirects=False
        ) as response:
            kept = [
                (name, value) for name, value in response.headers.items() if name.lower() not in _HOP_BY_HOP
            ]
            return Answer(response.status, kept, await response.read())


def _pass_on(answer: Answer) -> web.Response:
    response = web.Response(status=answer.status, body=answer.body or None)
    for name, value in answer.headers:
        if name.lower() != "content-length" or not answer.body:
            response.headers[name] = value
    return response


def _text_between(body: bytes, tag: str) -> str | None:
    match = re.search(rf"<{tag}>([^<]*)</{tag}>".encode(), body)
    return match.group(1).decode() if match else None


def _error(error: StsError) -> web.Response:
    kind = "Receiver" if error.status >= 500 else "Sender"
    text = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>'
        f"<Type>{kind}</Type><Code>{error.code}</Code><Message>{escape(error.message)}</Message></Error>"
        "<RequestId>00000000-0000-4000-8000-000000000000</RequestId></ErrorResponse>"
    )
    return web.Response(status=error.status, text=text, content_type="text/xml")


async def _show(
    fault: Fault, request: web.BaseRequest, call: AssumeRole, signer: Signer | None
) -> web.StreamResponse:
    if fault.kind == "malformed":
        return web.Response(text=MALFORMED, content_type="text/xml")
    if fault.kind == "empty":
        return web.Response(text=EMPTY, content_type="text/xml")
    if fault.kind == "hang":
        await asyncio.sleep(_LONGEST_HANG)
    if fault.kind in {"hang", "reset"}:
        _reset(request)
        return web.Response()
    status, code, message = ERRORS[fault.kind]
    who = signer.arn if signer else "unknown"
    return _error(StsError(status, code, message.format(signer=who, role=call.role_arn)))


def _reset(request: web.BaseRequest) -> None:
    if request.transport is None:
        return
    connection: socket.socket = request.transport.get_extra_info("socket")
    # Linger of zero seconds: close sends RST, not FIN.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


async def serve(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; say where on stdout."""
    world = World()
    upstream = ClientSession(
        timeout=ClientTimeout(total=60),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
    )
    async with upstream:
        front = web.Server(Front(world, upstream).handle)
        listener = await asyncio.get_running_loop().create_server(front, host, port, backlog=4096)
        bound_host, bound_port = listener.sockets[0].getsockname()[:2]
        where = f"[{bound_host}]" if ":" in bound_host else bound_host
        keys = {"access_key_id": world.access_key_id, "secret_access_key": world.secret_access_key}
        sys.stdout.write(json.dumps({"url": f"http://{where}:{bound_port}", **keys}) + "\n")
        sys.stdout.flush()
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        await stopping.wait()
        listener.close()
        await front.shutdown(0.1)  # aiohttp takes 0 for "no limit"


def main() -> None:
    """Run the stand-in from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.host, arguments.port))


if __name__ == "__main__":
    main()
