"""`python -m tests.chaos` (make chaos): the long run. Exit code 0: all zeros; 1: a promise was broken; 2: void."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.knobs import from_environment
from tests.chaos.run import run
from tests.chaos.table import render


def main() -> int:
    """Run with the environment's settings and print the table."""
    knobs = from_environment()
    directory = Path(tempfile.mkdtemp(prefix="chaos-"))
    sys.stdout.write(f"chaos: {knobs.duration:.0f} s, seed {knobs.seed}, everything in {directory}\n")
    sys.stdout.flush()
    outcome = run(directory, knobs)
    sys.stdout.write(render(outcome) + "\n")
    code = outcome.exit_code()
    if code == 0 and not os.environ.get("KEEP"):
        shutil.rmtree(directory, ignore_errors=True)
    else:
        sys.stdout.write(f"  logs: {directory}; again: make chaos SEED={knobs.seed} DURATION={knobs.duration:g}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
