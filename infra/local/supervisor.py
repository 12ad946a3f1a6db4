"""The platform: what is started, in which order, what is said about it, and how it all ends."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp

from infra.local import defaults, keep, words
from infra.local.broker.triggers import load_topology
from infra.local.console import Console
from infra.local.crew import Crew
from infra.local.data import Data
from infra.local.deliveries import Deliveries
from infra.local.failure import PlatformError
from infra.local.front_door import FrontDoor, Routes, is_loopback, listen, origin_of
from infra.local.model import Model
from infra.local.page.chain import Drawing, draw
from infra.local.page.letters import Letters
from infra.local.page.pages import Pages
from infra.local.page.watch import Eyes, Watch
from infra.local.page.way import Ways
from infra.local.pings import Ping
from infra.local.pings import run as run_pings
from infra.local.platform_api import PlatformApi, View
from infra.local.ports import PortBlock
from infra.local.processes import Probe
from infra.local.programs import Programs
from infra.local.proxy import Proxy, session
from infra.local.readiness import Readiness, answers_200
from infra.local.settings import Settings
from infra.local.topology import Topology, load

_REMIND = 10.0  # seconds between two lines that say what is still waited for
_BROKER = "broker"
_BROKER_PATH = "/default/default"  # namespace and name, as in the URL of a Knative Broker


async def run(settings: Settings, root: Path, topology: Path, console: Console) -> int:
    """Run the platform of the repository `root` and of this topology table until SIGINT or SIGTERM; give the exit code.

    Call it on the main thread. What keeps it from running is said in one line; what it started is gone when this returns.
    """
    try:
        table = load(topology)
        listener = listen(settings.host, settings.port)
        with listener, keep.lock(settings.state), closing(PortBlock()) as ports:
            async with session() as client:
                platform = Platform(settings, Programs(root, settings.state), table, ports, client, console)
                await platform.check()
                await platform.serve(listener)
    except (PlatformError, OSError) as error:
        console.fail(str(error))
        return 1
    console.done("stopped")
    return 0


class Platform:
    """Everything on one machine; `check` it, then `serve` it once.

    Raises PlatformError or OSError when STATE_DIR cannot be used or something is not installed; nothing runs then.
    """

    def __init__(
        self,
        settings: Settings,
        programs: Programs,
        topology: Topology,
        ports: PortBlock,
        client: aiohttp.ClientSession,
        console: Console,
    ) -> None:
        self._settings = settings
        self._programs = programs
        self._topology = topology
        self._client = client
        self._console = console
        self._crew = Crew(console, log_all=settings.log_all)
        self._model = Model(settings, ports)
        self._data = Data(settings, ports, console)
        self._broker_port = ports.take()
        self._broker_url = f"http://127.0.0.1:{self._broker_port}"
        self._ports = {one.name: ports.take() for one in topology.functions}
        self._urls = {name: f"http://127.0.0.1:{port}" for name, port in self._ports.items()}
        self._readiness = Readiness(client, self._urls)
        self._is_started = False
        self._is_private = True  # whether only this machine reaches the front door

    async def check(self) -> None:
        """Raise PlatformError when something that the person runs, and the platform needs, does not answer."""
        await self._model.check(self._client)
        await self._data.check()

    async def serve(self, listener: socket.socket) -> None:
        """Run everything, with the front door on `listener`, until a signal asks to stop.

        Raises PlatformError when something cannot be started, once everything is stopped again.
        """
        stop = self._hear_signals()
        self._is_private = is_loopback(listener)
        deliveries = Deliveries(self._settings.state / "deliveries.jsonl") if self._settings.stand_in else None
        pages = self._pages(deliveries)
        door = self._door(deliveries, pages)
        await door.open(listener)
        starting = self._crew.go(self._start(origin_of(listener)))
        asked = asyncio.create_task(stop.wait())
        try:
            ends: set[asyncio.Future[Any]] = {asked, self._crew.failed}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if self._crew.failed.done():
                self._crew.failed.result()
            self._console.step("stopping (Ctrl-C again stops at once)")
        finally:
            asked.cancel()
            starting.cancel()
            pages.close()
            await self._end(door)
            if deliveries is not None:
                deliveries.close()

    async def _start(self, origin: str) -> None:
        stand_in = self._settings.stand_in
        local = defaults.local_settings(os.environ, self._settings.state, origin, stand_in=stand_in)
        for warning in words.warnings(local, is_open=not self._is_private):
            self._console.warn(warning)
        environment = defaults.function_environment(os.environ, local) | self._addresses()
        reminding = self._crew.go(self._remind())
        model = self._crew.go(self._model.start(self._crew, self._programs, self._client, self._console))
        broker = self._programs.broker(self._broker_port, self._topology.path, self._urls)
        self._crew.start(broker, self._probe(self._broker_url))
        # A function that looks for the database before it is there would wait for seconds before it looks again.
        self._start_functions(environment, needing_database=False)
        await self._data.start(self._crew)
        self._start_functions(environment, needing_database=True)
        await self._data.bring_up_to_date(self._programs, origin if stand_in else None)
        await model
        await self._crew.all_ready()
        reminding.cancel()
        self._is_started = True
        pings = [Ping(one.name, one.schedule) for one in self._topology.functions if one.schedule is not None]
        self._crew.go(run_pings(pings, self._client, self._broker_url + _BROKER_PATH))
        self._console.done(f"{len(self._ports)} functions are ready")
        self._console.plain(words.ready(origin, self._settings.state, stand_in=stand_in, demo_model=self._model.is_ours))

    def _start_functions(self, environment: dict[str, str], *, needing_database: bool) -> None:
        for function in self._topology.functions:
            if ("database" in function.needs) == needing_database:
                program = self._programs.function(function, self._ports[function.name], environment)
                self._crew.start(program, self._probe(self._urls[function.name]))

    def _addresses(self) -> dict[str, str]:
        return {
            **self._data.address.environment(),
            "BROKER_URL": self._broker_url + _BROKER_PATH,
            "LLAMA_STACK_URL": self._model.url,
        }

    def _probe(self, url: str) -> Probe:
        return lambda: answers_200(self._client, f"{url}/health/readiness")

    async def _end(self, door: FrontDoor) -> None:
        """Stop everything, each part before what it needs."""
        await door.close()
        await self._crew.stop(self._ports)
        await self._crew.stop((_BROKER,))
        await self._model.stop(self._crew)
        await self._data.stop(self._crew)
        await self._crew.end_work()

    def _hear_signals(self) -> asyncio.Event:
        stop = asyncio.Event()

        def hear() -> None:
            if stop.is_set():  # asked twice: no more patience
                self._crew.kill()
                os._exit(130)
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, hear)
        return stop

    def _door(self, deliveries: Deliveries | None, pages: Pages) -> FrontDoor:
        view = View(self._describe, self._not_ready, self._trace_url)
        proxy = Proxy(self._client, self._settings.body_limit)
        routes = Routes(self._topology.functions, self._urls)
        api = PlatformApi(view, self._client, deliveries, pages, names={self._settings.host.lower()})
        return FrontDoor(routes, proxy, api)

    def _pages(self, deliveries: Deliveries | None) -> Pages:
        functions = self._topology.functions
        letters = Letters(lambda: self._data.address, self._broker_url + _BROKER_PATH, self._client)
        eyes = Eyes(self._describe, f"{self._broker_url}/_broker/changes", functions, self._urls)
        watch = Watch(eyes, letters, self._client)

        def sent(request_id: str) -> list[dict[str, Any]]:
            return [one for one in (deliveries.entries if deliveries else ()) if one["request_id"] == request_id]

        @cache  # the broker, too, reads the table once
        def drawings() -> list[Drawing]:
            table = load_topology(self._topology.path, self._urls)
            return draw(functions, (*table.triggers, table.dead_letter))

        logs = self._settings.state / "logs"
        ways = Ways(self._client, self._trace_url, lambda: self._data.address, letters, logs, sent)
        return Pages(functions, drawings, watch, ways, letters)

    def _trace_url(self, request_id: str) -> str:
        return f"{self._broker_url}/_broker/trace/{request_id}"

    async def _not_ready(self) -> list[str]:
        functions = [name for name, ready in (await self._readiness.check()).items() if not ready]
        if self._is_started:
            return functions
        return self._crew.not_ready() or functions or ["platform"]

    async def _remind(self) -> None:
        while True:
            await asyncio.sleep(_REMIND)
            self._console.step(f"still waiting for {', '.join(await self._not_ready())}")

    async def _describe(self) -> dict[str, Any]:
        ready = await self._readiness.check()
        return {
            "functions": {
                name: {
                    "url": url,
                    "pid": self._crew.pid(name),
                    "restarts": self._crew.restarts(name),
                    "ready": ready[name],
                }
                for name, url in self._urls.items()
            },
            "broker": {"url": self._broker_url + _BROKER_PATH, "pid": self._crew.pid(_BROKER)},
            "database": self._data.describe(self._crew, with_password=self._is_private),
            **self._model.describe(self._crew),
        }
