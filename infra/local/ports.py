"""Ports for the platform's own processes: a block that no other platform on this machine uses at the same time."""

from __future__ import annotations

import random
import socket

from infra.local.failure import PlatformError

SIZE = 32
# Below the range from which Linux takes the local ports of outgoing connections (32768 and up): a port of a process that is
# being restarted must not be taken by one of them.
_FIRST, _LAST = 20000, 32000


class PortBlock:
    """`SIZE` consecutive ports on 127.0.0.1, guarded by a listening socket on the first of them until `close`.

    Raises PlatformError when no block is free.
    """

    def __init__(self) -> None:
        bases = list(range(_FIRST, _LAST, SIZE))
        random.shuffle(bases)  # two platforms that start together look at different blocks first
        for base in bases:
            guard = _listen(base)
            if guard is None:
                continue
            if all(_is_free(port) for port in range(base + 1, base + SIZE)):
                self._guard = guard
                self._free = iter(range(base + 1, base + SIZE))
                return
            guard.close()
        raise PlatformError(f"no {SIZE} free ports in a row between {_FIRST} and {_LAST} on 127.0.0.1")

    def take(self) -> int:
        """Give the next port of the block. Raises PlatformError when all are given out."""
        port = next(self._free, None)
        if port is None:
            raise PlatformError(f"the topology table asks for more than {SIZE - 1} processes")
        return port

    def close(self) -> None:
        """Let other platforms have the block."""
        self._guard.close()


def _listen(port: int) -> socket.socket | None:
    candidate = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        candidate.bind(("127.0.0.1", port))
        candidate.listen(1)
    except OSError:
        candidate.close()
        return None
    return candidate


def _is_free(port: int) -> bool:
    candidate = _listen(port)
    if candidate is None:
        return False
    candidate.close()
    return True
