"""`python -m infra.local.broker`: run the broker until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import uvloop

from common.errors import SettingError
from infra.local.broker import log as logs
from infra.local.broker.disorder import Disorder, from_environment
from infra.local.broker.dispatch import Dispatcher
from infra.local.broker.sender import Sender
from infra.local.broker.server import Front
from infra.local.broker.store import Store, StoreError
from infra.local.broker.triggers import Topology, TopologyError, load_topology

HOST = "127.0.0.1"

log = logging.getLogger("broker")


def main() -> int:
    """Run the broker; return 0 when it was told to stop, 2 when it could not start (stderr says why)."""
    options = _options()
    logs.configure(options.log_level)
    try:
        disorder = from_environment()
        topology = load_topology(options.topology, dict(options.subscriber))
        store = Store(options.store, options.keep_events)
    except (TopologyError, StoreError, SettingError) as error:
        return _refuse(str(error))
    try:
        listener = socket.create_server((HOST, options.port), backlog=1024)
    except OSError as error:
        store.close()
        return _refuse(f"port {options.port}: {os.strerror(error.errno or 0)}")
    # What was imported lives as long as the process: the collector need not look at it again and again.
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)
    uvloop.run(_serve(topology, store, listener, options, disorder))
    store.close()
    return 0


async def _serve(
    topology: Topology, store: Store, listener: socket.socket, options: argparse.Namespace, disorder: Disorder | None
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    port = listener.getsockname()[1]
    async with Sender() as sender, asyncio.TaskGroup() as tasks:
        dispatcher = Dispatcher(
            topology, store, sender, tasks, url=f"http://{HOST}:{port}/", in_flight=options.in_flight, disorder=disorder
        )
        front = Front(dispatcher)
        web = front.server()
        # Before the first new event, which it would otherwise deliver twice.
        await dispatcher.resume()
        waiting = len(dispatcher.open_deliveries())
        server = await loop.create_server(web, sock=listener, backlog=1024)
        log.info("listening", extra={"fields": {"port": port, "waiting": waiting}})
        await stop.wait()
        log.info("stopping")
        front.stopping = True
        server.close()
        await dispatcher.stop(options.drain)
        web.pre_shutdown()  # idle connections
        await web.shutdown(1.0)
    log.info("stopped")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m infra.local.broker", description="A local Knative Broker.")
    parser.add_argument("--port", type=int, required=True, help=f"on {HOST}; 0 takes a free one and logs it")
    parser.add_argument("--store", type=Path, required=True, help="the SQLite file")
    parser.add_argument("--topology", type=Path, required=True, help="the topology table")
    parser.add_argument("--subscriber", type=_subscriber, action="append", default=[], metavar="NAME=URL")
    parser.add_argument("--in-flight", type=_positive, default=50, help="deliveries of one Trigger at once")
    parser.add_argument("--drain", type=float, default=5.0, help="seconds for deliveries in flight on SIGTERM")
    parser.add_argument("--keep-events", type=_positive, default=50_000, help="finished events kept for traces")
    parser.add_argument("--log-level", choices=("DEBUG", "INFO", "WARNING", "ERROR"), default="INFO")
    return parser.parse_args()


def _subscriber(text: str) -> tuple[str, str]:
    name, equals, url = text.partition("=")
    if not (name and equals and url):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=URL")
    return name, url


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _refuse(reason: str) -> int:
    sys.stderr.write(f"broker: {' '.join(reason.split())}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
