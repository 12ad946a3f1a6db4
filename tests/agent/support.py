"""What the tests of the agent share beside fixtures: where things are, and a server that answers as told."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3

ROOT = Path(__file__).resolve().parents[2]
FUNCTION = ROOT / "functions" / "agent-invoke"
if str(FUNCTION) not in sys.path:
    sys.path.insert(0, str(FUNCTION))

HTTP = urllib3.PoolManager(retries=False, timeout=10)


@dataclass
class Gateway:
    """Answers as told: what stands between us and a model elsewhere (a proxy, a server of another version)."""

    url: str
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    old_path: bool = True
    seen: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)

    def will_answer(self, status: int, body: object, **headers: str) -> None:
        """The next call of the Responses API gets this; `_` in a header's name stands for `-`."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.append((status, {"content-type": "application/json"} | named, data))
