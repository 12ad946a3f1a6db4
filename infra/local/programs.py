"""The command and environment of each process of the platform."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.local.llama import server as llama_server
from infra.local.settings import Database
from infra.local.spawn import Program
from infra.local.topology import Function

_FUNCTION_GRACE = 10.0  # seconds; more than DRAIN_SECONDS of the local defaults


@dataclass(frozen=True, slots=True)
class Programs:
    """Makes them. `root` is the repository, `state` is STATE_DIR."""

    root: Path
    state: Path

    def function(self, function: Function, port: int, environment: Mapping[str, str]) -> Program:
        """One function behind its host; `environment` is what every function gets."""
        own = {"PORT": str(port), "THREADS": str(function.threads)}
        command = (sys.executable, "-m", "common.host", f"functions/{function.name}")
        return self._program(function.name, command, {**environment, **own}, grace=_FUNCTION_GRACE, shows_warnings=True)

    def broker(self, port: int, topology: Path, subscribers: Mapping[str, str]) -> Program:
        """The broker stand-in; `subscribers` are the functions' addresses by name."""
        options = ["--port", str(port), "--store", str(self.state / "broker.sqlite"), "--topology", str(topology)]
        for name, url in subscribers.items():
            options += ["--subscriber", f"{name}={url}"]
        return self._program("broker", (sys.executable, "-m", "infra.local.broker", *options), shows_warnings=True)

    def migrations(self, database: Database) -> Program:
        """What brings the tables up to date."""
        command = (sys.executable, "-m", "infra.migrations")
        return self._program("migrations", command, {**os.environ, **database.environment()})

    def demo_model(self, port: int) -> Program:
        """The scripted model behind the Llama Stack server."""
        command = (sys.executable, "-m", "infra.local.llama.demo_model", "--port", str(port))
        return self._program("demo-model", command)

    def llama_installation(self, venv: Path) -> Program:
        """What installs the Llama Stack server into `venv`."""
        command = (sys.executable, "-m", "infra.local.install_llama", str(venv))
        return self._program("llama-stack-installation", command, orphan_signal=signal.SIGTERM)

    def llama_stack(self, python: Path, configuration: Path, port: int) -> Program:
        """The Llama Stack server; its own state is where its configuration is."""
        directory = configuration.parent
        return self._program(
            "llama-stack",
            tuple(llama_server.command(python, configuration, port)),
            llama_server.environment(directory, os.environ),
            directory=directory,
        )

    def _program(
        self,
        name: str,
        command: tuple[str, ...],
        environment: Mapping[str, str] = os.environ,
        *,
        directory: Path | None = None,
        grace: float = 15.0,
        orphan_signal: signal.Signals = signal.SIGKILL,
        shows_warnings: bool = False,
    ) -> Program:
        return Program(
            name=name,
            command=command,
            environment=environment,
            directory=directory or self.root,
            log=self.state / "logs" / f"{name}.log",
            grace=grace,
            orphan_signal=orphan_signal,
            shows_warnings=shows_warnings,
        )
