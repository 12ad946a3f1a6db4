"""What a func.py tells the host about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable


class Part(Protocol):
    """Something that lives as long as the function's process."""

    def start(self) -> None:
        """Begin what should be there before the first request, without waiting for it."""

    def close(self) -> None:
        """Let go of it, after the last request."""


@runtime_checkable
class Draining(Protocol):
    """A part that wants to know when the process was told to end, before the last requests are answered."""

    def drain(self) -> None:
        """Let go of what can be gone on with elsewhere. Called once, in the main thread; must not wait."""


class Need(Part, Protocol):
    """A part without which the function is not ready: the broker, the database."""

    name: str

    def check(self) -> None:
        """Say whether it can be used now, within 3 seconds.

        Raises ServiceError when it cannot.
        """


@dataclass(frozen=True)
class Function:
    """A function's name, its kind, what it needs (readiness asks), and what else starts and ends with it.

    `paths` are Flask rules that reach `main` beside `/`, as a gateway routes them. `kind`: ingest functions take POST and
    have the body limit MAX_BODY_BYTES; read functions take GET; event functions are given CloudEvents by a broker. `pages`
    are rules that a browser GETs of an ingest function.
    """

    name: str
    kind: Literal["ingest", "event", "read"]
    paths: tuple[str, ...] = ()
    pages: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    parts: tuple[Part, ...] = ()
