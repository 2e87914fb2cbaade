"""log: lines on stderr by way of a thread, in a process of its own because logging is the whole process's."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests.standins.processes import bare_environment


def run(script: str, *, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run a script that has started the log as `listener`."""
    return subprocess.run(
        [sys.executable, "-c", "import logging\nfrom imds_proxy import log\n" + textwrap.dedent(script)],
        env=bare_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        timeout=60,
        check=True,
    )


def test_lines() -> None:
    """A message stands alone; what is more or less than information says so first; a traceback follows."""
    done = run("""
        listener = log.start_log("debug")
        mine = logging.getLogger("imds_proxy.mine")
        mine.info("configuration %s", "reloaded")
        mine.warning("needs a restart")
        mine.error("configuration kept")
        mine.debug("detail")
        mine.warning("x.yaml:3: warning: text", extra=log.PLAIN)
        try:
            raise ValueError("why")
        except ValueError:
            mine.exception("failed")
        listener.stop()
    """)
    lines = done.stderr.splitlines()
    assert lines[:6] == [
        "configuration reloaded",
        "warning: needs a restart",
        "error: configuration kept",
        "debug: detail",
        "x.yaml:3: warning: text",
        "error: failed",
    ]
    assert lines[6] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: why"
    assert done.stdout == ""


def test_what_names_have_in_them_is_spelled_out() -> None:
    """Overrides of the writing direction, separators of lines, escapes of a terminal: in tracebacks, too."""
    done = run("""
        listener = log.start_log("info")
        mine = logging.getLogger("imds_proxy.mine")
        mine.info("no role for %s", "ada\\u202enimda\\u2028\\x1b[31m\\r")
        mine.info("two\\nlines")
        try:
            raise ValueError("ada\\u2066")
        except ValueError:
            mine.exception("failed")
        listener.stop()
    """)
    lines = done.stderr.split("\n")
    assert lines[:3] == [r"no role for ada\u202enimda\u2028\x1b[31m\r", "two", "lines"]
    assert lines[-2] == r"ValueError: ada\u2066"
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(("level", "lines"), [("info", 3), ("warning", 2), ("error", 1)])
def test_levels(level: str, lines: int) -> None:
    """What is below the level is not written."""
    done = run(f"""
        listener = log.start_log({level!r})
        for write in (logging.debug, logging.info, logging.warning, logging.error):
            write("line")
        listener.stop()
    """)
    assert len(done.stderr.splitlines()) == lines


def test_talkative_libraries() -> None:
    """Whatever our own level, AWS's libraries stay at INFO: at DEBUG they write keys and signed URLs."""
    done = run("""
        listener = log.start_log("debug")
        for name in ("botocore.parsers", "botocore.auth", "boto3.session", "urllib3.connectionpool"):
            logging.getLogger(name).debug("SecretAccessKey")
            assert not logging.getLogger(name).isEnabledFor(logging.DEBUG)
            assert logging.getLogger(name).isEnabledFor(logging.INFO)
        logging.getLogger("imds_proxy").debug("ours")
        listener.stop()
    """)
    assert done.stderr == "debug: ours\n"


STUCK = """
    import os, sys, threading
    reader, writer = os.pipe()
    sys.stderr = open(writer, "w")
    listener = log.start_log("info")
    for number in range(12_000):
        logging.info("%06d %s", number, "x" * 100)
"""


def test_a_terminal_that_does_not_scroll() -> None:
    """Nobody waits for a stderr that does not move; what is too much is dropped, the first lines come."""
    done = run(
        STUCK
        + """
    lines = []
    thread = threading.Thread(target=lambda: lines.extend(open(reader)))
    thread.start()
    import time
    while len(lines) < 9000:
        time.sleep(0.01)
    listener.stop()
    sys.stderr.close()
    thread.join(20)
    print(lines[0][:6], len(lines) < 12_000)
    """
    )
    assert done.stdout.split() == ["000000", "True"]


def test_the_end_with_such_a_terminal() -> None:
    """The end of the process does not wait for it either."""
    done = run(STUCK + "    listener.stop()\n    print('ended', flush=True)\n    os._exit(0)\n")
    assert done.stdout == "ended\n"
