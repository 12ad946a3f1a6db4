"""Traces that are switched off, or on, or cannot be."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.parts.functions import ROOT
from tests.parts.net import free_port
from tests.parts.samples import settings_of_ingest

ON = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
SCRIPT = """
import json, logging, sys
if sys.argv[2] == "without":
    sys.modules["opentelemetry"] = None  # as if it were not installed
sys.path.insert(0, f"functions/{sys.argv[1]}")
import func
from common import host, tracing
logging.basicConfig(stream=sys.stderr, format="%(message)s")
tracing.switch_on(func.function.name)
of_it = [name for name in sys.modules if name.startswith(("opentelemetry.", "google.protobuf"))]
print(json.dumps({"off": "common.tracing_otel" not in sys.modules, "imported": of_it}))
"""


class Loaded:
    """A function loaded by a host in this environment, with or without the package: what that came to."""

    def __init__(self, environment: dict[str, str], *, name: str = "ingest-web", package: str = "with") -> None:
        settings = {**settings_of_ingest("http://127.0.0.1:9/"), "LLAMA_STACK_URL": "http://127.0.0.1:9"}
        ran = subprocess.run(
            [sys.executable, "-c", SCRIPT, name, package],
            cwd=ROOT,
            env={"PATH": os.defpath, **settings, **environment},
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        self.said = ran.stderr.splitlines()
        told = json.loads(ran.stdout)
        self.is_off: bool = told["off"]
        self.imported: list[str] = told["imported"]


class TestSwitchedOff:
    """A function whose environment asks for no traces, or that lacks the package."""

    @pytest.mark.parametrize("name", sorted(path.parent.name for path in ROOT.glob("functions/*/func.py")))
    def test_no_function_imports_anything_of_it(self, name: str) -> None:
        loaded = Loaded({}, name=name)
        assert (loaded.is_off, loaded.imported, loaded.said) == (True, [], [])

    @pytest.mark.parametrize(
        "environment",
        [
            {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
            {"OTEL_TRACES_EXPORTER": "none", **ON},
            {"OTEL_SDK_DISABLED": "true", **ON},
        ],
        ids=["empty", "no-exporter", "disabled"],
    )
    def test_it_is_off_where_it_is_not_wanted(self, environment: dict[str, str]) -> None:
        loaded = Loaded(environment)
        assert (loaded.is_off, loaded.imported, loaded.said) == (True, [], [])

    @pytest.mark.parametrize(
        "environment",
        [ON, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, {"OTEL_TRACES_EXPORTER": "otlp"}],
        ids=["endpoint", "traces-endpoint", "exporter"],
    )
    def test_it_is_on_where_it_is_asked_for(self, environment: dict[str, str]) -> None:
        loaded = Loaded(environment)
        assert (loaded.is_off, loaded.said) == (False, [])
        assert "opentelemetry.sdk.trace" in loaded.imported

    def test_without_the_package_one_line_says_so_and_the_function_runs(self) -> None:
        loaded = Loaded(ON, package="without")
        assert (loaded.is_off, loaded.imported) == (True, [])
        [line] = loaded.said
        assert "extra `otel`" in line

    @pytest.mark.parametrize(
        ("environment", "named"),
        [
            ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
            ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
            ({"OTEL_SDK_DISABLED": "perhaps"}, "OTEL_SDK_DISABLED"),
            ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", **ON}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ],
        ids=["endpoint", "exporter", "disabled", "protocol"],
    )
    def test_what_cannot_be_used_ends_it_at_start(self, environment: dict[str, str], named: str) -> None:
        ran = subprocess.run(
            [sys.executable, "-m", "common.host", "functions/ingest-web"],
            cwd=ROOT,
            env={"PATH": os.defpath, **settings_of_ingest("http://127.0.0.1:9/"), "PORT": str(free_port()), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        assert ran.returncode == 78
        [line] = ran.stderr.splitlines()
        assert line.startswith(f"functions/ingest-web: {named} must be")
