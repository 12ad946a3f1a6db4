"""The wheel of common, built once for the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.deploy import wheel as wheels
from tests.parts.functions import ROOT


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheels.build(ROOT, tmp_path_factory.mktemp("wheel"))
