"""What `make audit` makes of pip-audit's findings; the tests ask no advisory service."""

from __future__ import annotations

from typing import Any

import pytest

from infra.checks import audit
from tests.parts.functions import ROOT

CLEAN = {"name": "good", "version": "1", "vulns": []}
SKIPPED = {"name": "private", "skip_reason": "not found"}
BAD = {"name": "bad", "version": "1", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}]}


@pytest.mark.parametrize(
    ("found", "required", "code", "said"),
    [
        ([CLEAN], "", 0, "1 packages, no known vulnerability"),
        ([CLEAN, BAD], "", 1, "bad 1 has PYSEC-1; fixed in 2"),
        ([SKIPPED, BAD], "", 1, "bad 1 has PYSEC-1"),
        ([CLEAN, SKIPPED], "", 0, "NOT AUDITED"),
        ([CLEAN, SKIPPED], "required", 1, "NOT AUDITED"),
    ],
)
def test_a_vulnerability_fails_and_what_was_not_audited_is_said(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    found: list[dict[str, Any]],
    required: str,
    code: int,
    said: str,
) -> None:
    monkeypatch.setenv("AUDIT", required)
    assert audit.judge("requirements/x.txt", found) == code
    assert said in capsys.readouterr().err


def test_an_accepted_one_is_known_by_any_of_its_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(audit.ACCEPTED, "CVE-1", "cannot be reached: why")
    assert audit.judge("requirements/x.txt", [BAD]) == 0


@pytest.mark.parametrize("name", audit.FILES)
def test_everything_is_pinned_with_its_hashes(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    pins = [line for line in text.splitlines() if line[:1].strip() and not line.startswith("#")]
    assert all("==" in line for line in pins)
    assert text.count("--hash=sha256:") >= len(pins)
    first = audit.first_requirement(text)
    assert first.startswith(pins[0])
    assert "--hash=sha256:" in first
    assert len([line for line in first.splitlines() if line[:1].strip()]) == 1
