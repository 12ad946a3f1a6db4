"""`python -m benchmarks [PART …]`: run the parts, print budget, figure and verdict, keep the JSON in .state/bench."""

from __future__ import annotations

import sys

from benchmarks import chain, single, startup
from benchmarks.processes import ROOT
from benchmarks.results import machine, save, show

PARTS = {"chain": chain.measure, "single": single.measure, "startup": startup.measure}


def main(names: list[str]) -> int:
    """Run the named parts (all of them when none is named)."""
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        sys.stderr.write(f"there is no part {unknown[0]}; parts: {', '.join(PARTS)}\n")
        return 2
    sys.stdout.write(", ".join(f"{name} {value}" for name, value in machine().items()) + "\n")
    found = {}
    for name in names or PARTS:
        found[name] = PARTS[name]()
        show(name, found[name])
    save(ROOT / ".state" / "bench" / "last.json", found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
