"""Answers everything at once (POST 202, else 200): a broker that costs next to nothing. `python -m benchmarks.sink PORT`."""

from __future__ import annotations

import asyncio
import sys


class _Sink(asyncio.Protocol):
    """Enough HTTP for kept-open connections whose requests have a Content-Length, or no body."""

    def __init__(self) -> None:
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._rest += data
        while (end := self._rest.find(b"\r\n\r\n")) >= 0:
            head = self._rest[:end].lower()
            found = head.find(b"content-length:")
            length = int(head[found + 15 :].split(b"\r\n", 1)[0]) if found >= 0 else 0
            if len(self._rest) < end + 4 + length:
                return
            status = b"202 Accepted" if head.startswith(b"post") else b"200 OK"
            self._rest = self._rest[end + 4 + length :]
            self._transport.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(_Sink, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
