"""What answers the agents: the Llama Stack server that the person named, or one of ours in front of the scripted model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp

from infra.local.console import Console
from infra.local.crew import Crew
from infra.local.failure import PlatformError
from infra.local.llama import config as llama_config
from infra.local.llama import server as llama_server
from infra.local.ports import PortBlock
from infra.local.processes import run_once
from infra.local.programs import Programs
from infra.local.readiness import answers_200
from infra.local.settings import Settings

_STACK, _DEMO = "llama-stack", "demo-model"


class Model:
    """The Llama Stack server at `url`. `is_ours` says whether the platform runs it."""

    def __init__(self, settings: Settings, ports: PortBlock) -> None:
        self.is_ours = settings.llama_stack_url is None
        self._settings = settings
        self._port, self._demo_port = ports.take(), ports.take()
        self.url = settings.llama_stack_url or f"http://127.0.0.1:{self._port}"

    async def check(self, client: aiohttp.ClientSession) -> None:
        """Raise PlatformError when the server that LLAMA_STACK_URL names does not answer."""
        if not self.is_ours and not await answers_200(client, f"{self.url}/v1/health"):
            raise PlatformError(f"LLAMA_STACK_URL {self.url} does not answer at /v1/health")

    async def start(self, crew: Crew, programs: Programs, client: aiohttp.ClientSession, console: Console) -> None:
        """Install and start the server if it is to be ours; returns when it is ready.

        Raises PlatformError when it cannot be installed.
        """
        if not self.is_ours:
            return
        demo_url = f"http://127.0.0.1:{self._demo_port}/v1"

        async def lists_models() -> bool:
            return await answers_200(client, f"{demo_url}/models")

        async def is_healthy() -> bool:
            return await answers_200(client, llama_server.health_url(self._port))

        demo = crew.start(programs.demo_model(self._demo_port), lists_models)
        installation = programs.llama_installation(self._settings.llama_stack_venv)
        python = Path(await run_once(installation, lambda line: _tell(console, line)))
        directory = self._settings.state / "llama-stack-data"
        configuration = llama_config.write(directory, port=self._port, model_url=demo_url)
        await demo.was_ready.wait()  # the server asks it for its models when it starts
        stack = crew.start(programs.llama_stack(python, configuration, self._port), is_healthy)
        await stack.was_ready.wait()
        console.done(f"Llama Stack is ready on port {self._port}")

    async def stop(self, crew: Crew) -> None:
        """Stop what is ours."""
        await crew.stop((_STACK,))
        await crew.stop((_DEMO,))

    def describe(self, crew: Crew) -> dict[str, Any]:
        """Give the parts of GET /_platform that are about the model."""
        parts: dict[str, Any] = {"llama_stack": {"url": self.url, "pid": crew.pid(_STACK)}}
        if self.is_ours:
            parts["demo_model"] = {"url": f"http://127.0.0.1:{self._demo_port}", "pid": crew.pid(_DEMO)}
        return parts


def _tell(console: Console, line: bytes) -> None:
    text = line.decode(errors="replace")
    if text.strip() and not text.startswith("/"):  # the last line, the server's Python, is for us
        console.step(text)
