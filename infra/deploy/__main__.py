"""`python -m infra.deploy generate|bump|vendor|release-archive`: what a deployment is made of."""

from __future__ import annotations

import os
import subprocess
import sys

from infra.deploy import bytecode, directories, generate, release, wheel
from infra.deploy.table import ROOT, TableError


def main(arguments: list[str]) -> int:
    """Do what the one argument says; 0, or 1 with one line that says why not."""
    try:
        match arguments:
            case ["generate"]:
                _say("written", generate.write())
                wheel.record(ROOT)
            case ["bump"]:
                new = wheel.bump(ROOT)
                wheel.record(ROOT)
                _say(f"{new}: written", generate.write())
            case ["vendor"]:
                extras = tuple(os.environ.get("EXTRAS", "").replace(",", " ").split())
                python = bytecode.interpreter(directories.PYTHON)
                _say("built", [str(place.relative_to(ROOT)) for place in wheel.vendor(ROOT, extras, python)])
                if python is None:
                    sys.stdout.write(f"not compiled: there is no python{directories.PYTHON} here (docs/adr/0008)\n")
            case ["release-archive", *commit]:
                _say("archived", [str(release.archive(ROOT, *commit[:1]).relative_to(ROOT))])
            case _:
                sys.stderr.write(f"usage: {__doc__.split(':')[0]}\n")
                return 2
    except (TableError, wheel.WheelError, release.ReleaseError) as error:
        sys.stderr.write(f"deploy: {error}\n")
        return 1
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"deploy: {error.cmd[0]} failed ({error.returncode})\n{error.stderr or ''}")
        return 1
    return 0


def _say(what: str, names: list[str]) -> None:
    sys.stdout.writelines(f"{what} {name}\n" for name in names)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
