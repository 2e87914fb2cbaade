"""The yardstick: a bare aiohttp Application that answers json_response, and nothing else."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from aiohttp import web

from bench.loops import known_loops, run_on
from bench.wire import LIST_PATH, TOKEN_PATH

DOCUMENT = {
    "Code": "Success",
    "LastUpdated": "2026-01-01T00:00:00Z",
    "Type": "AWS-HMAC",
    "AccessKeyId": "ASIABENCH00000000001",
    "SecretAccessKey": "0" * 40,
    "Token": "IQoJb3JpZ2luX2Vj" * 45,
    "Expiration": "2026-01-01T01:00:00Z",
}
"""As long as what the daemon hands out."""

_TOKEN = "T" * 56
_ROLE = "bench-r000"
PATH = LIST_PATH + _ROLE


async def _answer_token(_request: web.Request) -> web.Response:
    return web.json_response(_TOKEN)


async def _answer_list(_request: web.Request) -> web.Response:
    return web.json_response(_ROLE)


async def _answer_role(_request: web.Request) -> web.Response:
    return web.json_response(DOCUMENT)


async def _serve() -> None:
    application = web.Application()
    application.router.add_put(TOKEN_PATH, _answer_token)
    application.router.add_get(LIST_PATH, _answer_list)
    application.router.add_get(LIST_PATH + "{role}", _answer_role)
    # The access log alone would take as long as half the request: without it the yardstick is longer.
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None  # noqa: SLF001 - the only way to the port that 0 became
    _, port = site._server.sockets[0].getsockname()  # type: ignore[attr-defined]  # noqa: SLF001
    sys.stderr.write(f"listening 127.0.0.1:{port}\n")
    sys.stderr.flush()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await runner.cleanup()


def main() -> None:
    """Serve until SIGTERM on the loop that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", choices=known_loops(), required=True)
    run_on(parser.parse_args().loop, _serve())


if __name__ == "__main__":
    main()
