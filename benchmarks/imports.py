"""What a function imports before it listens: which modules, how long it takes, and what most of it is."""

from __future__ import annotations

import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Mapping

from benchmarks.processes import ROOT, python

# As the host loads it, up to where it would begin to listen.
_LOAD = """
import json, sys, time
from pathlib import Path
from common import host
here = str(Path("functions/{name}").resolve())
sys.path.insert(0, here)
host.parliament_server.load(here)
print(json.dumps({{"modules": sorted(sys.modules), "seconds": time.process_time()}}))
"""
_SETTINGS = {
    "BROKER_URL": "http://127.0.0.1:1/",
    "AUTH_MODE": "none",
    "LLAMA_STACK_URL": "http://127.0.0.1:1",
    "SLACK_SIGNING_SECRET": "none",  # pragma: allowlist secret
    "POSTGRES_HOST": "127.0.0.1",
}
FUNCTIONS = sorted(path.parent.name for path in ROOT.glob("functions/*/func.py"))


def modules(function: str) -> frozenset[str]:
    """The names of the modules that are there when the function begins to listen."""
    return frozenset(json.loads(_run(function).stdout.splitlines()[-1])["modules"])


def seconds(function: str, environment: Mapping[str, str] | None = None) -> float:
    """CPU time from the interpreter's start until the function could begin to listen."""
    return float(json.loads(_run(function, environment=environment).stdout.splitlines()[-1])["seconds"])


def by_package(function: str) -> dict[str, float]:
    """Milliseconds that importing took, by top-level package, the longest first, each without what it imports from others.

    By `-X importtime`.
    """
    took: dict[str, float] = defaultdict(float)
    for line in _run(function, "-X", "importtime").stderr.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if len(parts) == 3 and parts[0].strip().isdigit():
            took[parts[2].strip().partition(".")[0]] += int(parts[0]) / 1000
    return dict(sorted(took.items(), key=lambda one: -one[1]))


def _run(function: str, *options: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = python(*options, "-c", _LOAD.format(name=function))
    settings = {**os.environ, **_SETTINGS, **(environment or {})}
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=settings)
