"""Sends prepared requests from 16 connections, each once, and checks each answer.

python -m benchmarks.post URL FILE — the file has a JSON object a line: `method`, `path`, `headers`, `body`, the `status` to
expect and a text (`id`) that must be in the answer's headers or body. Prints requests a second.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import aiohttp

CONNECTIONS = 16


@dataclass(frozen=True)
class Call:
    """A request, and what its answer must be."""

    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    method: str = "POST"
    path: str = "/"
    status: int = 202
    id: str = ""


def rate(url: str, calls: Iterable[Call]) -> float:
    """Requests a second, by a process of its own. Raises RuntimeError for an answer that is not the expected one."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.writelines(json.dumps(asdict(call)) + "\n" for call in calls)
        file.flush()
        command = [sys.executable, "-m", "benchmarks.post", url, file.name]
        ran = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    if ran.returncode:
        raise RuntimeError(ran.stderr[-1500:])
    return float(ran.stdout)


async def run(url: str, calls: list[Call]) -> float:
    """Requests a second. Raises RuntimeError for an answer that is not the expected one."""
    left = iter(calls)
    async with aiohttp.ClientSession() as http:

        async def client() -> None:
            for call in left:
                data = call.body.encode() if call.method == "POST" else None
                async with http.request(call.method, url + call.path, data=data, headers=call.headers) as answer:
                    body = await answer.read()
                    if answer.status != call.status or not _carries(call.id, answer, body):
                        raise RuntimeError(f"{call.path}: {answer.status} {dict(answer.headers)} {body[:300]!r}")

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
        return len(calls) / (time.perf_counter() - started)


def _carries(text: str, answer: aiohttp.ClientResponse, body: bytes) -> bool:
    return not text or text.encode() in body or text in answer.headers.values()


if __name__ == "__main__":
    lines = Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()
    print(asyncio.run(run(sys.argv[1], [Call(**json.loads(line)) for line in lines])))  # noqa: T201 - its only output
