"""`make audit`: whether a version that we pin has a known vulnerability, by pip-audit and PyPI's advisories.

The advisories are on the network. Where their service is not reached (a private index, no way out) nothing was audited:
that is said loudly, and is no failure, or nobody could run `make check` there; AUDIT=required makes it one, for a pipeline
that has the network. A vulnerability that was found is always a failure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Everything that we ship or run is pinned in these; pyproject's extras of the functions are all in dev.txt.
FILES = ("requirements/dev.txt", "requirements/llama-stack.txt")
# A vulnerability that cannot reach us, by its id, and why it cannot. Nothing else belongs here.
ACCEPTED: dict[str, str] = {}
_SECONDS = 300


def main() -> int:
    """Audit every file; 1 when one holds a vulnerability, or was not audited although AUDIT=required."""
    results = [audit(name) for name in FILES]
    return max(results)


def audit(name: str) -> int:
    """Audit one requirements file and say what came of it; the exit code."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            # One package first: where the service does not answer for that one, a hundred more need not be asked for.
            first = Path(folder) / "requirements.txt"
            first.write_text(first_requirement((ROOT / name).read_text(encoding="utf-8")), encoding="utf-8")
            if any("skip_reason" in one for one in run(first)):
                return not_audited(name, "the advisory service does not answer here")
        return judge(name, run(ROOT / name))
    except subprocess.TimeoutExpired:
        return not_audited(name, f"the advisory service did not answer within {_SECONDS} s")
    except NotAudited as error:
        return not_audited(name, str(error))


class NotAudited(Exception):
    """pip-audit gave no result; the text says why."""


def run(requirements: Path) -> list[dict[str, Any]]:
    """pip-audit's findings for a file whose every line is pinned and hashed: nothing is resolved or installed.

    Raises NotAudited when it gives none, subprocess.TimeoutExpired after 5 minutes.
    """
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--require-hashes", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "10", "--vulnerability-service", "pypi"]
    ran = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=_SECONDS)
    try:
        found: list[dict[str, Any]] = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError):
        raise NotAudited(_reason(ran.stderr)) from None
    return found


def first_requirement(text: str) -> str:
    """The file's first pin with its hashes."""
    lines = text.splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if "==" in line)
    end = next((number for number in range(start + 1, len(lines)) if lines[number][:1].strip()), len(lines))
    return "".join(lines[start:end])


def judge(name: str, dependencies: list[dict[str, Any]]) -> int:
    """Say what pip-audit found; what it skipped was not audited, although it calls that no vulnerability."""
    skipped = [one["name"] for one in dependencies if "skip_reason" in one]
    found = [
        (one["name"], one["version"], vulnerability)
        for one in dependencies
        for vulnerability in one.get("vulns", ())
        if not {vulnerability["id"], *vulnerability.get("aliases", ())} & set(ACCEPTED)
    ]
    for package, version, vulnerability in found:
        fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
        _say(f"{name}: {package} {version} has {vulnerability['id']}; fixed in {fixed}")
    if found:
        return 1
    if skipped:
        return not_audited(name, f"the advisory service does not know {len(skipped)} of {len(dependencies)} packages")
    _say(f"{name}: {len(dependencies)} packages, no known vulnerability")
    return 0


def not_audited(name: str, why: str) -> int:
    """Say so; a failure when AUDIT=required."""
    required = os.environ.get("AUDIT", "").strip() == "required"
    _say(f"{name} was NOT AUDITED: {why}." + ("" if required else " AUDIT=required makes this a failure."))
    return 1 if required else 0


def _reason(output: str) -> str:
    """pip-audit's last line, without an address that a private index may have in it."""
    lines = [line for line in output.splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "pip-audit said nothing"
    return " ".join(word for word in last.split() if "://" not in word)[:200]


def _say(line: str) -> None:
    sys.stderr.write(f"audit: {line}\n")


if __name__ == "__main__":
    sys.exit(main())
