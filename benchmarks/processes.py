"""Starting what is measured, and reading what the kernel says of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import urllib3
from urllib3.exceptions import HTTPError

ROOT = Path(__file__).parents[1]
HTTP = urllib3.PoolManager(retries=False, timeout=5)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as candidate:
        candidate.bind(("127.0.0.1", 0))
        return int(candidate.getsockname()[1])


@contextmanager
def process(
    command: list[str], ready: str, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers 200 at `ready`, stopped at the end. Raises RuntimeError when it is not ready in 60 s."""
    started = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(ready, started)
        yield started
    finally:
        started.terminate()
        started.wait(60)


def wait_for(url: str, started: subprocess.Popen[bytes], seconds: float = 60) -> None:
    """Wait until GET `url` is 200. Raises RuntimeError when the process ended or the time is up."""
    deadline = time.monotonic() + seconds
    while started.poll() is None and time.monotonic() < deadline:
        try:
            if HTTP.request("GET", url).status == 200:
                return
        except HTTPError:
            pass
        time.sleep(0.005)  # a port tells nobody that it is open
    raise RuntimeError(f"{started.args!r} was not ready")


def python(*arguments: str) -> list[str]:
    """A command of this Python."""
    return [sys.executable, *arguments]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and of its children that have ended (proc(5), fields 14 to 17 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def tree_cpu_seconds(pid: int) -> float:
    """CPU time of a process and of the children that it has now (PostgreSQL's backends)."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return cpu_seconds(pid) + sum(cpu_seconds(int(child)) for child in children if Path(f"/proc/{child}").exists())


def resident_mb(pid: int) -> float:
    """Resident memory in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def busy_seconds() -> float:
    """CPU time that the whole machine has used, over all cores (proc(5), /proc/stat: all but idle and iowait)."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")
