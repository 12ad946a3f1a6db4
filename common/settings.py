"""Reading environment variables: a wrong value stops the function at start with one line that names the variable.

Each part of `common` reads its own variables with these helpers when it is constructed. An empty variable counts as not set.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from common.errors import SettingError


def text(name: str, default: str | None = None) -> str:
    """The variable's value, or `default`; without a default the variable must be set.

    Raises SettingError when it is missing.
    """
    value = os.environ.get(name, "").strip() or default
    if value is None:
        raise SettingError(f"{name} must be set")
    return value


def optional(name: str) -> str | None:
    """The variable's value, or None when it is not set."""
    return os.environ.get(name, "").strip() or None


def choice(name: str, default: str, allowed: Sequence[str]) -> str:
    """One of `allowed` (compared without case, returned as written there).

    Raises SettingError for any other value.
    """
    value = text(name, default)
    for one in allowed:
        if one.lower() == value.lower():
            return one
    raise SettingError(f"{name} must be one of {', '.join(allowed)}")


def number(name: str, default: float, *, least: float, most: float) -> float:
    """A number between `least` and `most`, both included.

    Raises SettingError for anything else.
    """
    raw = text(name, str(default))
    try:
        value = float(raw)
    except ValueError:
        raise SettingError(f"{name} must be a number") from None
    if not least <= value <= most:
        raise SettingError(f"{name} must be between {least:g} and {most:g}")
    return value


def integer(name: str, default: int, *, least: int, most: int) -> int:
    """A whole number between `least` and `most`, both included.

    Raises SettingError for anything else.
    """
    value = number(name, default, least=least, most=most)
    if value != int(value):
        raise SettingError(f"{name} must be a whole number")
    return int(value)


def flag(name: str, default: bool = False) -> bool:
    """True or false.

    Raises SettingError for anything but true, false, 1, 0, yes, no.
    """
    value = choice(name, "true" if default else "false", ("true", "false", "1", "0", "yes", "no"))
    return value in ("true", "1", "yes")


def url(name: str, default: str | None = None) -> str:
    """An absolute http or https URL, without a trailing slash.

    Raises SettingError for anything else, also when it carries a user or password.
    """
    value = text(name, default)
    try:
        parts = urlsplit(value)
        bad = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0
    except ValueError:
        bad = True
    if bad:
        raise SettingError(f"{name} must be an http or https URL")
    if parts.username or parts.password:
        raise SettingError(f"{name} must not carry a user or password")
    return value.rstrip("/")


def mounted(name: str) -> str | None:
    """A secret's content: the variable holds it, or the absolute path of a mounted file that does. None when not set.

    Raises SettingError when the file cannot be read.
    """
    value = optional(name)
    if value is None or not value.startswith("/"):
        return value
    try:
        return Path(value).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingError(f"{name} names a file that cannot be read ({error.strerror})") from None


def in_cluster() -> bool:
    """Whether this process runs in a pod (Kubernetes and Knative set these for every container)."""
    return "KUBERNETES_SERVICE_HOST" in os.environ or "K_SERVICE" in os.environ
