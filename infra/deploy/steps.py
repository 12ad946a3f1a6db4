"""The commands of `make deploy`, `helm-install`, `build-images` and `undeploy`: run in order, or only printed (DRY_RUN=1).

Environment: NAMESPACE (self-service-agent), REGISTRY (required to build or deploy), TAG (the version), VALUES (a values file
of the chart), BUILDER (pack or s2i), REMOTE=1 (func builds in the cluster), CONTAINER (podman or docker: the migrate image).
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping

from infra.deploy import wheel
from infra.deploy.table import NAME, ROOT, load

RELEASE = NAME
CHART = "infra/chart"
MIGRATE = "infra/deploy/migrate/Containerfile"
# What the replaced system's two images were; the targets that named them build these functions.
REQUEST_MANAGER = "request-mgr"
AGENT_SERVICE = "agent-service"
_AGENT_FUNCTIONS = frozenset({"agent-invoke"})

Command = list[str]


class MissingSetting(Exception):
    """A variable that the command needs is not set."""


def deploy(environment: Mapping[str, str]) -> list[Command]:
    """The chart without functions first: func refuses what names a ConfigMap or Secret that is not there, and new code needs
    the migrated schema. Then func for each function. An event that comes between waits in the broker.
    """
    namespace, registry = _namespace(environment), _registry(environment)
    commands = [_helm(environment, functions=False)]
    for name in _names():
        command = ["func", "deploy", "--path", f"functions/{name}", "--namespace", namespace, "--registry", registry]
        command += ["--builder", environment.get("BUILDER") or "pack"]
        commands.append([*command, "--remote"] if environment.get("REMOTE") == "1" else command)
    return [_vendor(), *commands]


def helm_install(environment: Mapping[str, str]) -> list[Command]:
    """Everything from images that build-images made."""
    return [_helm(environment, functions=True)]


def build_images(environment: Mapping[str, str], part: str | None = None) -> list[Command]:
    """Build and push an image for each function (of one part of the replaced system), and the migrations' image."""
    registry, tag = _registry(environment), environment.get("TAG") or wheel.version(ROOT)
    wanted = [name for name in _names() if part is None or (name in _AGENT_FUNCTIONS) == (part == AGENT_SERVICE)]
    commands = [_vendor()]
    for name in wanted:
        command = ["func", "build", "--path", f"functions/{name}", "--image", f"{registry}/{name}:{tag}"]
        commands.append([*command, "--builder", environment.get("BUILDER") or "pack", "--push"])
    if part != AGENT_SERVICE:
        container, image = environment.get("CONTAINER") or "podman", f"{registry}/migrate:{tag}"
        commands += [[container, "build", "--file", MIGRATE, "--tag", image, "."], [container, "push", image]]
    return commands


def undeploy(environment: Mapping[str, str]) -> list[Command]:
    """The release first, so that no Trigger wakes a function that goes; then what func deployed. The database stays."""
    namespace = _namespace(environment)
    release = ["helm", "uninstall", RELEASE, "--namespace", namespace, "--ignore-not-found", "--wait"]
    services = ["kubectl", "delete", "ksvc", "--namespace", namespace, "--ignore-not-found"]
    return [release, [*services, "--selector", f"app.kubernetes.io/part-of={NAME}"]]


def run(commands: list[Command], *, dry: bool) -> int:
    """Print each command, and run it unless `dry`; the first exit code that is not 0, else 0."""
    for command in commands:
        sys.stdout.write(f"+ {shlex.join(command)}\n")
        sys.stdout.flush()
        if not dry and (code := subprocess.run(command, cwd=ROOT, check=False).returncode):
            return code
    return 0


def _helm(environment: Mapping[str, str], *, functions: bool) -> Command:
    command = ["helm", "upgrade", "--install", RELEASE, CHART, "--namespace", _namespace(environment), "--create-namespace"]
    command += ["--set", f"deployFunctions={str(functions).lower()}", "--set", f"image.registry={_registry(environment)}"]
    command += ["--set", f"image.tag={environment['TAG']}"] if environment.get("TAG") else []
    return [*command, "--values", environment["VALUES"]] if environment.get("VALUES") else command


def _vendor() -> Command:
    return [sys.executable, "-m", "infra.deploy", "vendor"]


def _names() -> list[str]:
    return [function.name for function in load()]


def _namespace(environment: Mapping[str, str]) -> str:
    return environment.get("NAMESPACE") or NAME


def _registry(environment: Mapping[str, str]) -> str:
    if not environment.get("REGISTRY"):
        raise MissingSetting("REGISTRY must be set: where the images are, e.g. REGISTRY=registry.example.com/agents")
    return environment["REGISTRY"].rstrip("/")


def main(arguments: list[str]) -> int:
    """Do what the first argument says; an exit code."""
    environment = os.environ
    made = {
        "deploy": deploy,
        "helm-install": helm_install,
        "build-images": build_images,
        "build-request-mgr-image": lambda given: build_images(given, REQUEST_MANAGER),
        "build-agent-service-image": lambda given: build_images(given, AGENT_SERVICE),
        "undeploy": undeploy,
    }
    if len(arguments) != 1 or arguments[0] not in made:
        sys.stderr.write(f"usage: python -m infra.deploy.steps {'|'.join(made)}\n")
        return 2
    try:
        commands = made[arguments[0]](environment)
    except MissingSetting as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return run(commands, dry=environment.get("DRY_RUN") == "1")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
