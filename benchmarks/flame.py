"""Where a function's time goes while the chain works: flame graphs by py-spy.

python -m benchmarks.flame [FUNCTION …] [--clients N] [--seconds N] [--rate N] [--out DIRECTORY]
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.platform import Platform, platform
from benchmarks.processes import ROOT, python

FUNCTIONS = ("agent-invoke", "ingest-web", "session-upsert")
# What py-spy does not shorten by itself, below the repository, an environment or the interpreter's library.
_PATHS = re.compile(r"/[\w./+-]*?/(?=(?:functions|common|benchmarks)/|site-packages/|python3\.\d+/)")
_COMMAND = re.compile(r">[^<>]*py-spy record[^<>]*<")  # its title: the command line
_PACKAGES = re.compile(r"(?:site-packages|python3\.\d+)/(?:site-packages/)?")


def main(arguments: list[str]) -> int:
    """Start the platform, load it, record each function; write an SVG for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flame")
    parser.add_argument("functions", nargs="*", default=list(FUNCTIONS), metavar="FUNCTION")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=10, help="how long each is recorded")
    parser.add_argument("--rate", type=int, default=200, help="samples a second")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "flames")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    with platform() as running:
        pids = running.pids()
        unknown = [name for name in options.functions if name not in pids]
        if unknown:
            parser.error(f"there is no function {unknown[0]}")
        running.load(8, 300)  # warm
        for name in options.functions:
            target = options.out / f"{name}.svg"
            _record(running, pids[name], name, target, options)
            sys.stdout.write(f"{name}: {target} ({target.stat().st_size // 1024} KiB)\n")
    return 0


def _record(running: Platform, pid: int, name: str, target: Path, options: argparse.Namespace) -> None:
    """Record one process while clients ask. Raises RuntimeError when py-spy could not."""
    with subprocess.Popen(
        python("-m", "benchmarks.load", running.url, str(options.clients), "10000000"), cwd=ROOT, stdout=subprocess.DEVNULL
    ) as load:
        try:
            command = [str(Path(sys.executable).with_name("py-spy")), "record", "--function"]
            command += ["--pid", str(pid), "--duration", str(options.seconds), "--rate", str(options.rate)]
            ran = subprocess.run([*command, "--output", str(target)], check=False, capture_output=True, text=True)
        finally:
            load.terminate()
    if ran.returncode:
        raise RuntimeError(f"py-spy: {ran.stderr.strip()[-500:]}")
    text = target.read_text(encoding="utf-8")
    title = f"{name}: the chain with {options.clients} clients, {options.rate} samples a second for {options.seconds} s"
    target.write_text(anonymous(_COMMAND.sub(f">{title}<", text)), encoding="utf-8")


def anonymous(svg: str) -> str:
    """The graph without a path of this machine: modules as they are imported, our files as they are in the repository."""
    return _PACKAGES.sub("", _PATHS.sub("", svg))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
