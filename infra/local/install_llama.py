"""`python -m infra.local.install_llama DIRECTORY`: install the Llama Stack server; the last line is its Python.

A process of its own, so that whoever stops the platform during the minutes that this takes stops the installer too.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from infra.local.llama import environment


def main() -> int:
    """Install; 1 with one line that says why when it cannot be done."""
    # The platform ended: take the installers along, which are in this process's group.
    signal.signal(signal.SIGTERM, lambda _number, _frame: os.killpg(0, signal.SIGKILL))
    try:
        python = environment.ensure(Path(sys.argv[1]), _say)
    except (environment.InstallError, OSError) as error:
        _say(" ".join(str(error).split()))
        return 1
    _say(str(python))
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
