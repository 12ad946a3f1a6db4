"""What the command line says, before anything is read or imported for it."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_SERVER = "http://localhost:8080"


@dataclass
class Given:
    """What the command line and the environment say; None where they say nothing."""

    server: str | None = None
    user: str | None = None
    token: str | None = None
    config: str | None = None
    json: bool = False
