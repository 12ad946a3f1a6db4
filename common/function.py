"""What a func.py tells the host about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol


class Need(Protocol):
    """Something that a function cannot work without: the broker, the database."""

    name: str

    def start(self) -> None:
        """Begin what should be ready before the first request, without waiting for it."""

    def check(self) -> None:
        """Say whether it can be used now, within 3 seconds.

        Raises ServiceError when it cannot.
        """

    def close(self) -> None:
        """Let go of it, after the last request."""


@dataclass(frozen=True)
class Function:
    """A function's name, its kind and what it needs.

    `paths` are Flask rules that reach `main` beside `/`, as a gateway routes them. `kind`: ingest functions take POST and
    have the body limit MAX_BODY_BYTES; read functions take GET; event functions are given CloudEvents by a broker.
    """

    name: str
    kind: Literal["ingest", "event", "read"]
    paths: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
