"""One function beside a bare parliament function: what our host and our checks cost."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.processes import free_port, process, python
from benchmarks.results import Line

ROUNDS = 5
_REQUESTS = 1500
_BODY = '{"user_id": "webuser123", "content": "I want to refresh my laptop", "session_token": "token123"}'


def measure(rounds: int = ROUNDS) -> list[Line]:
    """ingest-web against `return "", 202` under `python -m parliament`, in turns, 16 clients each."""
    sink, ours = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "func.py").write_text("import parliament\n\ndef main(context):\n    return '', 202\n")
        with (
            process(python("-m", "benchmarks.sink", str(sink)), f"http://127.0.0.1:{sink}/"),
            process(python("-m", "parliament", folder), "http://127.0.0.1:8080/health/liveness"),
            process(
                python("-m", "common.host", "functions/ingest-web"),
                f"http://127.0.0.1:{ours}/health/liveness",
                {"PORT": str(ours), "BROKER_URL": f"http://127.0.0.1:{sink}/", "AUTH_MODE": "none", "THREADS": "16"},
            ),
        ):
            _rate(8080), _rate(ours)
            pairs = [(_rate(8080), _rate(ours)) for _ in range(rounds)]
    bare, mine = median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)
    return [
        Line("bare parliament function", bare, "req/s"),
        Line("ingest-web, broker's part not counted", mine, "req/s"),
        Line("ingest-web of bare", 100 * median(m / b for b, m in pairs), "%", 60, at_most=False),
    ]


def _rate(port: int) -> float:
    ran = subprocess.run(
        python("-m", "benchmarks.post", f"http://127.0.0.1:{port}/", _BODY, str(_REQUESTS)),
        check=True,
        capture_output=True,
        text=True,
    )
    return float(ran.stdout)
