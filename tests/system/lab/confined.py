"""What a confined service can do: run inside it, prints one JSON object, attempt -> what came of it.

`allowed`, the name of the error, or the signal that ended the attempt. Standard library only: it is copied
to a booted host and started there, by a drop-in, with whatever the unit allows.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_PTRACE_ATTACH = 16
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNS = 0x00020000
# Outside of the unit, where the same is tried for comparison, there are none.
_STATE = os.environ.get("STATE_DIRECTORY", "/tmp")
_RUNTIME = os.environ.get("RUNTIME_DIRECTORY", "/run")


def _write(path: str) -> Callable[[], object]:
    return lambda: Path(path).write_text("1")


def _read(path: str) -> Callable[[], object]:
    return lambda: list(Path(path).iterdir()) if Path(path).is_dir() else Path(path).read_bytes()


def _open_socket(family: int, kind: int, protocol: int = 0) -> Callable[[], object]:
    return lambda: socket.socket(family, kind, protocol)


def _call(name: str, *arguments: int) -> Callable[[], object]:
    def call() -> None:
        if getattr(_LIBC, name)(*arguments) < 0:
            raise OSError(ctypes.get_errno(), name)

    return call


def _listen_below_1024() -> None:
    socket.socket().bind(("127.0.0.1", 81))


def _find_others() -> None:
    processes = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
    if all(path.stat().st_uid == os.getuid() for path in processes):
        raise OSError(errno.ENOENT, "nobody else's process is seen")


def _set_uid_bit() -> None:
    file = Path(_STATE, "probe")
    file.write_text("")
    file.chmod(0o4755)


def _find_device() -> None:
    Path("/dev/mem").stat()


ATTEMPTS: dict[str, Callable[[], object]] = {
    "write its state": _write(f"{_STATE}/probe"),
    "write its runtime folder": _write(f"{_RUNTIME}/probe"),
    "write /tmp": _write("/tmp/probe"),
    "read its configuration": _read("/etc/imds-proxy/imds-proxy.yaml"),
    "read its key": _read(os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "/")),
    "run a program": lambda: subprocess.run(["/bin/true"], check=True),
    "open a TCP socket": _open_socket(socket.AF_INET, socket.SOCK_STREAM),
    "open a UDP socket": _open_socket(socket.AF_INET6, socket.SOCK_DGRAM),
    "open a unix socket": _open_socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "write /etc": _write("/etc/probe"),
    "write /usr": _write("/usr/probe"),
    "write /var": _write("/var/lib/probe"),
    "write /opt": _write("/opt/imds-proxy/probe"),
    "write its configuration": _write("/etc/imds-proxy/probe"),
    "read /etc/shadow": _read("/etc/shadow"),
    "read the key's file": _read("/etc/imds-proxy/aws-credentials"),
    "read /home": _read("/home/somebody"),
    "read /root": _read("/root"),
    "see other processes": _find_others,
    "see /dev/mem": _find_device,
    "set a kernel tunable": _write("/proc/sys/kernel/hostname"),
    "set a network tunable": _write("/proc/sys/net/ipv4/ip_forward"),
    "write cgroups": _write("/sys/fs/cgroup/cgroup.procs"),
    "open a raw socket": _open_socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "open a packet socket": _open_socket(socket.AF_PACKET, socket.SOCK_RAW),
    "open a netlink socket": _open_socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "listen below 1024": _listen_below_1024,
    "trace a process": _call("ptrace", _PTRACE_ATTACH, os.getppid(), 0, 0),
    "signal process 1": lambda: os.kill(1, 0),
    "become root": lambda: os.setuid(0),
    "make a user namespace": _call("unshare", _CLONE_NEWUSER),
    "make a mount namespace": _call("unshare", _CLONE_NEWNS),
    "map writable code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC),
    "set a file's uid bit": _set_uid_bit,
    "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "set the host name": lambda: socket.sethostname("probe"),
    "change its personality": _call("personality", 0x0400000),
}


def attempt(action: Callable[[], object]) -> str:
    """Return what comes of an action, tried in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        text = "allowed"
        try:
            action()
        except OSError as error:
            text = errno.errorcode.get(error.errno or 0, str(error))
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return os.read(reader, 1000).decode()


if __name__ == "__main__":
    sys.stdout.write(f"confined {json.dumps({name: attempt(action) for name, action in ATTEMPTS.items()})}\n")
