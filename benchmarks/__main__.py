"""`python -m benchmarks [PART …] [--markdown FILE]`: run the parts, print budget, figure, floor and verdict.

The JSON is kept in .state/bench/last.json, the curve of the chain in .state/bench/chain.svg.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

from benchmarks import broker, chain, database, ordering, single, startup, statements, streaming
from benchmarks.processes import ROOT
from benchmarks.results import Line, insert, machine, markdown, save, show

# In the order in which they run; what each measures is said at its top.
PARTS = {
    "chain": chain.measure,
    "single": single.measure,
    "startup": startup.measure,
    "statements": statements.measure,
    "ordering": ordering.measure,
    "streaming": streaming.measure,
    "broker": broker.measure,
    "database": database.measure,
}


def main(arguments: list[str]) -> int:
    """Run the named parts (all of them when none is named)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"one of {', '.join(PARTS)}; all when none is named")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the tables there, too: between its two marks, if it has them"
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.parts if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]}; parts: {', '.join(PARTS)}")
    sys.stdout.write(", ".join(f"{name} {value}" for name, value in machine().items()) + "\n")
    found: dict[str, list[Line]] = {}
    for name in options.parts or PARTS:
        started = time.monotonic()
        found[name] = PARTS[name]()
        show(f"{name} ({time.monotonic() - started:.0f} s)", found[name])
        save(ROOT / ".state" / "bench" / "last.json", found)  # what was measured stays if the next part fails
    if options.markdown:
        insert(options.markdown, markdown(found))
        if "chain" in found:
            shutil.copyfile(chain.PLOT, options.markdown.with_name(chain.PLOT.name))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
