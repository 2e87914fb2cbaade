"""Writes docs/clients.md after a run of all clients, or compares it with what a run has found.

`python -m tests.conformance.clients_page [--check]`: without `--check` the page is written if every
client of every language was green; a run of fewer is compared with the page. The exit status is 1
when a cell was not green, or page and registry say different things.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

from tests.conformance.cases import CASES
from tests.conformance.clients import ASKS_WITH_TOKEN, LANGUAGES, Cannot, Works, all_clients
from tests.conformance.modes import WHAT_TO_SET, Mode
from tests.conformance.results import FILE, GREEN
from tests.conformance.troubles import render_troubles
from tests.standins.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.conformance.clients import Client

PAGE = REPOSITORY / "docs" / "clients.md"

_TITLES = {
    "python": "Python",
    "javascript": "JavaScript",
    "go": "Go",
    "java": "Java",
    "rust": "Rust",
    "debian": "Debian 12's packages",
}
_COLUMNS = {
    Mode.NAMESPACE: "nothing set",
    Mode.NAMESPACE_NO_REGION: "no region",
    Mode.ENDPOINT: "endpoint",
    Mode.IPV6: "IPv6",
    Mode.CONTAINER_TOKEN: "container, token",
    Mode.CONTAINER_TOKEN_FILE: "container, token file",
    Mode.CONTAINER_RELATIVE: "container, relative",
    Mode.V1: "IMDSv1",
}
_MEANINGS = {
    Mode.NAMESPACE: "the client reaches 169.254.169.254 and knows its region",
    Mode.NAMESPACE_NO_REGION: "the same, and the region comes from the metadata, or from S3",
    Mode.ENDPOINT: "the daemon has another address",
    Mode.IPV6: "the client reaches [fd00:ec2::254] and no IPv4 address of the service",
    Mode.CONTAINER_TOKEN: "a listener with `container`, on loopback; the workload's token in the environment",
    Mode.CONTAINER_TOKEN_FILE: "the same with the token in a file, without a newline at its end",
    Mode.CONTAINER_RELATIVE: "a listener with `container` on 169.254.170.2",
    Mode.V1: "a listener with `imds_v1: true`, for clients that ask without a token",
}

_NO_VERSION = "not run"
_MOST_NAMED = 4
"""Columns in one note; more of them are the rest."""

_HEAD = """\
# The clients that were tried

`make conformance` has written this page; it says what was seen. Each client is a real, unmodified release
in a small program (`tests/sdk`) that is told where S3 is and finds its credentials by itself.

**yes**: one process fetched an object twice (a command ran twice) on a machine that reaches the daemon
and nothing else. S3 checked each signature with the secret that STS had issued for the key, the session
token, the end of the keys, the region, and that it was a session of the one role that may read the
object. The daemon's audit named the caller, and the program ended with status 0. **no**: with
what is usual in the column it got nothing, for the reason below the table. **no need**: the client asks
with a token (IMDSv2), which every listener gives.
"""

_NOT_TRIED = """\
## Not tried

For some no toolchain or package was to be had where the tests run, others would have been one more
program around an SDK that is above. That says nothing against them.

- The AWS SDKs for .NET, PHP, Swift, Kotlin and SAP ABAP; the AWS Tools for PowerShell; the SDK for C++ on
  its own (it is tried as pyarrow has it)
- Agents: SSM agent, CloudWatch agent, CodeDeploy agent, Fluent Bit, Vector, Telegraf
- On Go's SDKs: Terraform, OpenTofu, Packer, Pulumi, Vault, Velero, restic, Loki, Thanos
- On Java's: Hadoop's S3A, Spark, Trino
- Anything on Windows and macOS
"""


def render(clients: Sequence[Client], versions: Mapping[str, str]) -> str:
    """Return the page: what the clients say of themselves, and the versions that were seen."""
    parts = [_HEAD, _render_modes()]
    for language in LANGUAGES:
        of_language = [client for client in clients if client.language == language]
        if of_language:
            parts.append(_render_language(language, of_language, versions))
    names = {client.name for client in clients}
    parts.append(render_troubles([case for case, (client, _) in CASES.items() if client.name in names]))
    parts.append(_NOT_TRIED)
    return "\n".join(parts)


def _render_modes() -> str:
    lines = ["| column | means | what to set, unless a client says otherwise |", "|---|---|---|"]
    lines += [f"| {_COLUMNS[mode]} | {_MEANINGS[mode]} | {WHAT_TO_SET[mode]} |" for mode in Mode]
    region = (
        "In all columns but *no region* AWS_REGION and AWS_DEFAULT_REGION are set: most clients read one of\n"
        "them, botocore and what is built on it the second alone."
    )
    return "\n".join([*lines, "", region, ""])


def _render_language(language: str, clients: Sequence[Client], versions: Mapping[str, str]) -> str:
    lines = [f"## {_TITLES[language]}", ""]
    lines.append(f"| client | version | {' | '.join(_COLUMNS[mode] for mode in Mode)} |")
    lines.append("|---" * (2 + len(Mode)) + "|")
    for client in clients:
        cells = [_render_cell(client.modes[mode]) for mode in Mode]
        lines.append(f"| {client.name} | {versions.get(client.name, _NO_VERSION)} | {' | '.join(cells)} |")
    lines.append("")
    for client in clients:
        lines += _render_notes(client)
    return "\n".join([*lines, ""])


def _render_cell(cell: Works | Cannot) -> str:
    if isinstance(cell, Works):
        return "yes"
    return "no need" if cell == ASKS_WITH_TOKEN else "no"


def _render_notes(client: Client) -> Iterator[str]:
    """Yield a line for each thing that is not as usual, the modes that share it together."""
    notes: dict[str, list[str]] = {}
    for mode in Mode:
        match client.modes[mode]:
            case Works(what_to_set=str(text)):
                notes.setdefault(f"set {text}", []).append(_COLUMNS[mode])
            case Cannot(reason=text) as cell if cell != ASKS_WITH_TOKEN:
                notes.setdefault(f"no: {text}", []).append(_COLUMNS[mode])
    if not client.reads_s3:
        notes.setdefault("it has no S3: it named the role", []).append("everywhere")
    for text, columns in notes.items():
        where = ["elsewhere"] if len(columns) > _MOST_NAMED else columns
        yield f"- **{client.name}**, *{'*, *'.join(where)}*: {text}"


def read_versions(page: str) -> dict[str, str]:
    """Return the version of each client in a page."""
    rows = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|(?: (?:yes|no|no need) \|)+$", page, re.MULTILINE)
    return {name: version for name, version in rows if version != _NO_VERSION}


def main(arguments: Sequence[str]) -> int:
    """Write or compare; return the exit status."""
    found = json.loads(FILE.read_text("utf-8"))
    clients = all_clients()
    not_green = [
        f"{name}, {mode}: {outcome.splitlines()[0]}"
        for name, cells in found["cells"].items()
        for mode, outcome in cells.items()
        if outcome != GREEN and not outcome.startswith("skipped")
    ]
    for line in not_green:
        sys.stderr.write(f"not green: {line}\n")
    committed = PAGE.read_text("utf-8") if PAGE.exists() else ""
    missing = [
        f"{client.name}, {mode}"
        for client in clients
        for mode in Mode
        if isinstance(client.modes[mode], Works) and found["cells"].get(client.name, {}).get(mode) != GREEN
    ]
    if not missing and "--check" not in arguments:
        PAGE.write_text(render(clients, found["versions"]), "utf-8")
        sys.stdout.write(f"{PAGE.relative_to(REPOSITORY)} is written: {len(clients)} clients\n")
        return 0
    return _compare(clients, committed, found["versions"], missing) or int(bool(not_green))


def _compare(
    clients: Sequence[Client], committed: str, versions: Mapping[str, str], missing: Sequence[str]
) -> int:
    sys.stdout.write(f"{len(missing)} cells were not green here; comparing with {PAGE.name}\n")
    known = read_versions(committed)
    for name, version in versions.items():
        if known.get(name) != version:
            sys.stdout.write(f"{name}: the page has {known.get(name)}, this run {version}\n")
    if committed != render(clients, known):
        sys.stderr.write("the page is not what the registry says: run `make conformance`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
