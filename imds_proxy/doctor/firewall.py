"""The firewall: the tables that are loaded against those that the settings make.

Two texts of the same rules are rarely equal. So nft itself reads the rendered rules, in a network namespace
that ends with it, and lists them as it lists the loaded ones; what it counts and numbers is left out.
"""

from __future__ import annotations

import json
import os
import tempfile
from typing import TYPE_CHECKING

from imds_proxy.doctor.findings import Finding, fault, ok, skipped
from imds_proxy.doctor.programs import UnavailableError, read_output, run_program

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TITLE = "firewall"
_REMEDY = "imds-proxy render nftables --dir /etc/imds-proxy && nft -f /etc/imds-proxy/imds-proxy.nft"
_SCRATCH = 'nft -f "$1" && nft -j list ruleset'
_OWN_NUMBERS = frozenset({"handle", "packets", "bytes", "index"})

Table = tuple[str, str]
"""Family and name."""


async def examine_firewall(rendered: str) -> list[Finding]:
    """Return the findings on every table that the rendered rules have."""
    if os.geteuid() != 0:
        return [skipped(_TITLE, "only root sees the loaded rules", "sudo imds-proxy doctor")]
    try:
        wanted = parse_ruleset(await _list_rendered(rendered))
        findings = []
        for family, name in wanted:
            done = await run_program("nft", "-j", "list", "table", family, name)
            loaded = parse_ruleset(done.output) if done.status == 0 else {}
            findings.append(judge_table((family, name), wanted, loaded))
    except UnavailableError as error:
        return [skipped(_TITLE, str(error))]
    return findings or [skipped(_TITLE, "the settings make no rules")]


async def _list_rendered(rendered: str) -> str:
    with tempfile.NamedTemporaryFile("w", prefix="imds-proxy-", suffix=".nft") as file:
        file.write(rendered)
        file.flush()
        return await read_output("unshare", "--net", "sh", "-c", _SCRATCH, "sh", file.name)


def parse_ruleset(listed: str) -> dict[Table, list[str]]:
    """Return what each table has, an item for each chain, set and rule. Raises UnavailableError."""
    tables: dict[Table, list[str]] = {}
    try:
        for entry in json.loads(listed)["nftables"]:
            ((kind, fields),) = entry.items()
            if kind == "metainfo":
                continue
            table = (fields["family"], fields["name" if kind == "table" else "table"])
            if kind in {"set", "map"} and "timeout" in (fields.get("flags") or ()):
                fields = {key: value for key, value in fields.items() if key != "elem"}  # packets fill it
            tables.setdefault(table, []).append(json.dumps([kind, _without_numbers(fields)], sort_keys=True))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnavailableError("nft lists its rules in a way that can't be read") from error
    return tables


def _without_numbers(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_numbers(one) for key, one in value.items() if key not in _OWN_NUMBERS}
    if isinstance(value, list):
        return [_without_numbers(one) for one in value]
    return value


def judge_table(
    table: Table, wanted: Mapping[Table, list[str]], loaded: Mapping[Table, list[str]]
) -> Finding:
    """Return whether a table is loaded as the settings make it."""
    name = f"table {table[0]} {table[1]}"
    if table not in loaded:
        return fault(_TITLE, f"{name} is not loaded: whoever reaches this host may ask", _REMEDY)
    if loaded[table] == wanted[table]:
        return ok(_TITLE, f"{name} is loaded as the settings make it")
    lacking = _places(one for one in wanted[table] if one not in loaded[table])
    surplus = _places(one for one in loaded[table] if one not in wanted[table])
    parts = [f"lacks something in {', '.join(lacking)}"] if lacking else []
    parts += [f"has more in {', '.join(surplus)}"] if surplus else []
    return fault(_TITLE, f"{name} {' and '.join(parts) or 'has another order of rules'}", _REMEDY)


def _places(items: Iterable[str]) -> list[str]:
    places = set()
    for item in items:
        kind, fields = json.loads(item)
        places.add(
            f"chain {fields['chain']}" if kind == "rule" else f"{kind} {fields.get('name', '')}".strip()
        )
    return sorted(places)
