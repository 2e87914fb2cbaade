"""The command line: `python -m bench [NAME ...] [--quick]`."""

from __future__ import annotations

import argparse
import time
from functools import partial

from bench import cold, crowd, footprint, million, neighbour, renewal, report, warm
from bench.loops import known_loops, run_on
from bench.machine import Scale, describe_machine, raise_file_limit, take_load_core

_DESCRIPTION = "Measures imds-proxy on this machine. Reports figures and judges none of them."
_ITEMS = {
    "warm": warm.run,
    "cold": cold.run,
    "crowd": crowd.run,
    "renewal": renewal.run,
    "neighbour": neighbour.run,
    "footprint": footprint.run,
    "million": million.run,
}


def main() -> None:
    """Run the items that were named, or all, and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=_DESCRIPTION)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(_ITEMS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="small numbers: to see that it works")
    parser.add_argument("--callers", type=int, metavar="N", help="of million; default: a million")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(_ITEMS):
        parser.error(f"no item {', '.join(sorted(unknown))}; known: {', '.join(_ITEMS)}")
    scale = Scale.QUICK if arguments.quick else Scale.FULL
    raise_file_limit()
    report.write(describe_machine())
    take_load_core()
    began = time.monotonic()
    items = _ITEMS | {"million": partial(million.run, count=arguments.callers)}
    for name in arguments.names or items:
        run_on(known_loops()[-1], items[name](scale))
    report.write(f"\ntook {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
