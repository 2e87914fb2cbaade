"""What gives this host the metadata addresses, unit or systemd-networkd: as the settings make it, or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from imds_proxy.doctor.findings import Finding, ok, warning
from imds_proxy.doctor.units import differing_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from imds_proxy.doctor.units import Unit

ADDRESS_UNIT = "imds-proxy-address.service"
NETWORK_FOLDER = Path("/etc/systemd/network")
_DROP_IN = "imds-proxy.conf"
RENDER = "imds-proxy render network --dir /etc/systemd/system && systemctl daemon-reload"
_RENDER_NETWORKD = "imds-proxy render network --style networkd"


def judge_unit(unit: Unit, rendered: str | None) -> list[Finding]:
    """Return the findings on the unit of the addresses; `rendered` is its text, None: it is to have none.

    Nothing is said of one that neither runs nor starts at boot: the addresses may come another way, and
    whether they are there is looked at anyhow.
    """
    if not unit.is_there or not (unit.is_active or unit.starts_at_boot):
        return []
    if rendered is None:
        text = "is active, and the settings make no such unit"
        return [warning(ADDRESS_UNIT, text, f"systemctl disable --now {ADDRESS_UNIT}")]
    if unit.fragment is not None and (keys := differing_keys(unit.fragment, rendered)):
        text = f"the loaded file is not what the settings make of it: {', '.join(keys)}"
        return [warning(ADDRESS_UNIT, text, f"{RENDER} && systemctl restart {ADDRESS_UNIT}")]
    if not unit.starts_at_boot:
        text = "does not start at boot: the addresses would be gone"
        return [warning(ADDRESS_UNIT, text, f"systemctl enable {ADDRESS_UNIT}")]
    return [ok(ADDRESS_UNIT, f"{unit.active}, enabled")]


def judge_networkd_files(present: Mapping[str, str], rendered: Mapping[str, str]) -> list[Finding]:
    """Return the findings on files of ours that systemd-networkd reads; both are texts by the files' names.

    What is not present is no fault: the unit may do it.
    """
    return [_judge_file(name, text, rendered.get(name)) for name, text in present.items()]


def read_networkd_files(folder: Path = NETWORK_FOLDER) -> dict[str, str]:
    """Return those files in systemd-networkd's folder that `render network` makes, by their names in it."""
    paths: Iterable[Path] = (*folder.glob("50-imds-proxy.*"), *folder.glob(f"*.network.d/{_DROP_IN}"))
    found = {}
    for path in sorted(paths):
        try:
            found[str(path.relative_to(folder))] = path.read_text("utf-8")
        except (OSError, ValueError):
            continue
    return found


def extended_network_file(names: Iterable[str]) -> str | None:
    """Return which network file has a drop-in of ours among these names, None if none has."""
    drop_ins = (name.removesuffix(f".d/{_DROP_IN}") for name in names if name.endswith(f".d/{_DROP_IN}"))
    return next(drop_ins, None)


def _judge_file(name: str, text: str, rendered: str | None) -> Finding:
    path = str(NETWORK_FOLDER / name)
    if rendered is None:
        return warning(path, "the settings make no such file", f"rm {path} && networkctl reload")
    if keys := differing_keys(text, rendered):
        extended = extended_network_file([name])
        more = f" --network-file {extended}" if extended else ""
        remedy = f"{_RENDER_NETWORKD}{more} --dir {NETWORK_FOLDER} && networkctl reload"
        return warning(path, f"is not what the settings make of it: {', '.join(keys)}", remedy)
    return ok(path, "as the settings make it")
