"""What the platform itself reads from the environment; the rest of the environment goes to the functions untouched."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import settings

DATABASE = "llama_agents"


@dataclass(frozen=True, slots=True)
class Database:
    """Where PostgreSQL answers, as the functions are told it (POSTGRES_*)."""

    host: str
    port: int
    name: str
    user: str
    password: str

    def environment(self) -> dict[str, str]:
        """Give the variables that the functions and the migrations read."""
        return {
            "POSTGRES_HOST": self.host,
            "POSTGRES_PORT": str(self.port),
            "POSTGRES_DB": self.name,
            "POSTGRES_USER": self.user,
            "POSTGRES_PASSWORD": self.password,
        }

    def parameters(self, name: str | None = None) -> dict[str, Any]:
        """Give psycopg's parameters of a connection in autocommit to it (or to the database `name`), opened within 3 s."""
        return {
            "host": self.host,
            "port": self.port,
            "dbname": name or self.name,
            "user": self.user,
            "password": self.password,
            "connect_timeout": 3,
            "autocommit": True,
        }


@dataclass(frozen=True, slots=True)
class Settings:
    """The platform's settings.

    `port` 0 lets the system choose one. `database` and `llama_stack_url` are None when the platform is to run its own;
    `stand_in` says that Slack and the tools' webhooks are stood in for; `body_limit` is the most bytes of a body that the
    front door takes: more than the functions do, which say 413 themselves.
    """

    host: str
    port: int
    state: Path
    llama_stack_url: str | None
    llama_stack_venv: Path
    database: Database | None
    fsync: bool
    log_all: bool
    stand_in: bool
    body_limit: int


def from_environment(root: Path) -> Settings:
    """Read the settings; without STATE_DIR the state is in `.state` of the repository `root`.

    Raises common.errors.SettingError that names the variable with the unusable value.
    """
    state = Path(settings.text("STATE_DIR", str(root / ".state"))).expanduser().resolve()
    venv = settings.optional("LLAMA_STACK_VENV")
    return Settings(
        host=settings.text("HOST", "127.0.0.1"),
        port=settings.integer("PORT", 8080, least=0, most=65535),
        state=state,
        llama_stack_url=settings.url("LLAMA_STACK_URL") if settings.optional("LLAMA_STACK_URL") else None,
        llama_stack_venv=Path(venv).expanduser().resolve() if venv else state / "llama-stack",
        database=_database() if settings.optional("POSTGRES_HOST") else None,
        fsync=settings.flag("PLATFORM_FSYNC", True),
        log_all=settings.choice("PLATFORM_LOG", "warnings", ("warnings", "all")) == "all",
        stand_in=settings.optional("SLACK_BOT_TOKEN") is None,
        body_limit=max(1024 * 1024, 2 * settings.integer("MAX_BODY_BYTES", 0, least=0, most=16 * 1024 * 1024)),
    )


def _database() -> Database:
    return Database(
        host=settings.text("POSTGRES_HOST"),
        port=settings.integer("POSTGRES_PORT", 5432, least=1, most=65535),
        name=settings.text("POSTGRES_DB", DATABASE),
        user=settings.text("POSTGRES_USER", "postgres"),
        password=os.environ.get("POSTGRES_PASSWORD", ""),
    )
