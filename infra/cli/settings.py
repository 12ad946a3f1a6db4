"""Which server, who asks, with what token: a flag comes before the environment, that before the config file."""

from __future__ import annotations

import base64
import getpass
import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from infra.cli.failures import Wrong
from infra.cli.given import DEFAULT_SERVER, Given

_KEYS = ("server", "user", "token")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Settings:
    """What a command works with. `warning` is a line that the person should read."""

    server: str
    user: str
    token: str | None
    json: bool
    warning: str | None


def resolve(given: Given) -> Settings:
    """The settings in force.

    Raises Wrong, in one line, for a config file or a server that cannot be used.
    """
    path = config_path(given.config)
    kept = _read(path, must_exist=given.config is not None)
    server = _checked_server(given.server or kept.get("server") or DEFAULT_SERVER)
    token = given.token or kept.get("token")
    user = given.user or kept.get("user") or (_subject(token) if token else None) or _login()
    warning = None
    if token and server.startswith("http:") and urlsplit(server).hostname not in _LOOPBACK:
        warning = f"the token goes to {server} without encryption"
    elif "token" in kept and path.stat().st_mode & 0o077:
        warning = f"others can read the token in {path}: chmod 600"
    return Settings(server, user, token, given.json, warning)


def config_path(given: str | None = None) -> Path:
    """Where the config file is: --config or AGENT_CONFIG, else by the XDG base directories."""
    if given:
        return Path(given).expanduser()
    return _base("XDG_CONFIG_HOME", ".config") / "config.toml"


def state_directory() -> Path:
    """Where the command keeps which conversation is the current one, and what was typed in `agent chat`."""
    return _base("XDG_STATE_HOME", ".local/state")


def _base(variable: str, default: str) -> Path:
    base = os.environ.get(variable, "")
    # The XDG specification: a relative path is to be ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / default) / "agent"


def _read(path: Path, *, must_exist: bool) -> dict[str, str]:
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            raise Wrong(f"there is no config file {path}") from None
        return {}
    except OSError as error:
        raise Wrong(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):  # the parser's text may quote a token
        raise Wrong(f"{path} is not valid TOML") from None
    for key, value in document.items():
        if key not in _KEYS:
            raise Wrong(f"{path}: unknown key {key!r}; there are {', '.join(_KEYS)}")
        if not isinstance(value, str):
            raise Wrong(f"{path}: {key} must be a text")
    return document


def _checked_server(server: str) -> str:
    try:
        parts = urlsplit(server)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and not parts.username
    except ValueError:
        good = False
    if not good:
        raise Wrong("the server must be an http or https URL without user and password")
    return server.rstrip("/")


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise Wrong("who asks? --user, AGENT_USER or `user` in the config file") from None


def _subject(token: str) -> str | None:
    """Whom a JWT is about. Not verified: the server does that; we only have to call ourselves by the same name."""
    try:
        payload = token.split(".")[1]
        subject = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["sub"]
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return subject if isinstance(subject, str) and subject else None
