"""The runbook's sections and what is in their code blocks."""

from __future__ import annotations

import re

from tests.parts.functions import ROOT

RUNBOOK = ROOT / "docs/runbook.md"
_BLOCK = re.compile(r"^```\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SQL = re.compile(r"^SELECT .*?;", re.MULTILINE | re.DOTALL)


def sections() -> list[str]:
    """The alerts that have one."""
    return re.findall(r"^## (SelfServiceAgent\w+)$", RUNBOOK.read_text(), re.MULTILINE)


def statements() -> list[str]:
    """Its SQL, where no name has to be filled in."""
    return [sql for block in _BLOCK.findall(RUNBOOK.read_text()) for sql in _SQL.findall(block)]


def queries() -> list[str]:
    """Its PromQL: lines of a block that name a metric and are no command."""
    lines = (line for block in _BLOCK.findall(RUNBOOK.read_text()) for line in block.splitlines())
    found = (line.partition("  # ")[0].strip() for line in lines if re.search(r"self_service_agent_\w+", line))
    return [line for line in found if not line.startswith(("kubectl", "curl"))]
