"""What stays in STATE_DIR between two runs: random secrets, and the lock that keeps a second platform out."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from infra.local.failure import PlatformError


def kept_secret(path: Path, make: Callable[[], str]) -> str:
    """Give the secret kept in the file, which only its owner can read; the first time it is made."""
    if not path.exists():
        making = path.with_name(f"{path.name}.making")  # renamed when whole: a start cut short keeps no half of one
        descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(make())
        making.replace(path)
    return path.read_text(encoding="ascii")


def lock(state: Path) -> TextIO:
    """Take STATE_DIR for this process; the kernel gives it back when the process ends, however it ends.

    Raises PlatformError when another platform has it, or the directory cannot be used.
    """
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds what people wrote
        file = (state / "lock").open("a+", encoding="ascii")
    except OSError as error:
        raise PlatformError(f"STATE_DIR {state} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        pid = file.read().strip()
        file.close()
        raise PlatformError(f"STATE_DIR {state} is used by a platform that is running (process {pid})") from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
