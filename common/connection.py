"""One kept-open HTTP/1.1 connection of which only each answer's status counts: what publishing an event needs.

Publishing is most of what an ingest function does. A client library, http.client included, sends head and body in two
system calls, asks the kernel before each whether it may, and parses headers that nobody reads: three times the cost of the
exchange itself (docs/performance.md), since every system call also gives the interpreter's lock away.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from urllib.parse import SplitResult

CONNECT_SECONDS = 1.0
_MAX_HEAD = 64 * 1024
_SLACK = 0.05  # seconds; a timeout of the socket that is this near is not set anew


class BadAnswer(OSError):
    """The answer is no HTTP/1.1, or its connection ended in the middle."""


class Connection:
    """A connection to the host of `url` (http, or https by `tls`). Not thread-safe; `reusable` tells whether to keep it."""

    def __init__(self, url: SplitResult, tls: ssl.SSLContext | None = None) -> None:
        self.reusable = False
        self._path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._host = url.netloc.rpartition("@")[2]
        secure = url.scheme == "https"
        address = (url.hostname or "", url.port or (443 if secure else 80))
        self._socket: socket.socket = socket.create_connection(address, timeout=CONNECT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._in_kernel = not secure  # TLS has to see its timeouts itself
        self._seconds = CONNECT_SECONDS
        if secure:
            self._socket = (tls or ssl.create_default_context()).wrap_socket(self._socket, server_hostname=url.hostname)
        else:
            self._socket.settimeout(None)
            self._seconds = 0.0

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def exchange(self, method: str, headers: dict[str, str], body: bytes, deadline: float) -> int:
        """Send a request with `body`; the answer's status, by `deadline` (of time.monotonic).

        Raises TimeoutError when there is none by then, OSError when the connection fails, ValueError when a header cannot be
        sent. After an error the connection is of no use.
        """
        self.reusable = False
        lines = [f"{method} {self._path} HTTP/1.1", f"Host: {self._host}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(lines).encode("ascii")
        if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1:
            raise ValueError("a header holds a line break")
        try:
            self._bound(deadline)
            self._socket.sendall(head + b"\r\n\r\n" + body)
            return self._answer(deadline)
        except BlockingIOError:  # how the kernel tells that SO_RCVTIMEO or SO_SNDTIMEO has passed (socket(7))
            raise TimeoutError("no answer in time") from None

    def _answer(self, deadline: float) -> int:
        """The status of the answer; its body is read when it is said to be short, else the connection is given up."""
        rest = b""
        while True:
            head, rest = self._head(rest, deadline)
            status = int(head[9:12]) if head.startswith(b"HTTP/1.") and head[9:12].isdigit() else 0
            if status >= 200:
                break
            if status < 100:
                raise BadAnswer("no HTTP/1.1")
        fields = dict(line.partition(b":")[::2] for line in head.lower().split(b"\r\n")[1:])
        length = b"0" if status == 204 else fields.get(b"content-length", b"").strip()
        if b"close" in fields.get(b"connection", b"") or head.startswith(b"HTTP/1.0"):
            return status
        if length.isdigit() and int(length) <= _MAX_HEAD and b"transfer-encoding" not in fields:
            left = int(length) - len(rest)
            while left > 0:
                self._bound(deadline)
                left -= len(self._receive(deadline))
            self.reusable = left == 0
        return status

    def _head(self, received: bytes, deadline: float) -> tuple[bytes, bytes]:
        """An answer's status line and headers, and what came after them."""
        while (end := received.find(b"\r\n\r\n")) < 0:
            if len(received) > _MAX_HEAD:
                raise BadAnswer("the answer's head is too large")
            if received:
                self._bound(deadline)
            received += self._receive(deadline)
        return received[:end], received[end + 4 :]

    def _receive(self, deadline: float) -> bytes:
        if time.monotonic() >= deadline:
            raise TimeoutError("no answer in time")
        received = self._socket.recv(8192)
        if not received:
            raise BadAnswer("the connection ended before the answer")
        return received

    def _bound(self, deadline: float) -> None:
        """Have the next system calls give up at `deadline`; the one that is set is kept when it is near enough."""
        left = max(0.01, deadline - time.monotonic())
        if abs(left - self._seconds) < _SLACK and left > _SLACK:
            return
        self._seconds = left
        if self._in_kernel:
            # The kernel counts: a timeout of Python's socket costs one more system call for each send and receive.
            value = struct.pack("ll", int(left), int(left % 1 * 1_000_000))
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)
        else:
            self._socket.settimeout(left)
