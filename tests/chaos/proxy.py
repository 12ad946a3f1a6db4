"""A TCP proxy that cuts, slows and loses replies, in front of PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

_CHUNK = 64 * 1024


class Proxy:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target`, in a thread of its own, until `close`."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.connections_cut = 0
        self.replies_lost = 0
        self._target = target
        self._lose = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        self._started.wait()

    def cut(self) -> None:
        """Close every connection now, whatever is on its way."""
        self._loop.call_soon_threadsafe(self._cut)

    def lose_replies(self, count: int) -> None:
        """Cut the next `count` connections on which the server answers, without passing that answer on."""
        self._loop.call_soon_threadsafe(self._set_lose, count)

    def hold(self) -> None:
        """Pass nothing on, in either direction, until `flow`."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def flow(self) -> None:
        """Pass everything on again."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def close(self) -> None:
        """Stop, and cut what is open."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        self._cut()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())

    def _set_lose(self, count: int) -> None:
        self._lose = count

    def _cut(self) -> None:
        self.connections_cut += len(self._writers) // 2
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, server_writer}
        self._writers |= both
        ways = (self._pass(reader, server_writer, is_reply=False), self._pass(server_reader, writer, is_reply=True))
        await asyncio.wait([asyncio.ensure_future(way) for way in ways], return_when=asyncio.FIRST_COMPLETED)
        self._writers -= both
        for one in both:
            one.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._flowing.wait()
                if is_reply and self._lose > 0:
                    self._lose -= 1
                    self.replies_lost += 1
                    return
                writer.write(data)
                await writer.drain()
