"""A function under parliament's own server, on a port of its own: `python -m benchmarks.bare PORT DIRECTORY`.

The same as `python -m parliament DIRECTORY`, which always takes 8080 on every address.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

import waitress

_serve = waitress.serve


def _on_loopback(app: Any, **_where: Any) -> None:
    _serve(app, host="127.0.0.1", port=int(_PORT))


if __name__ == "__main__":
    _PORT, directory = sys.argv[1:3]
    waitress.serve = _on_loopback
    sys.argv = ["parliament", directory]
    runpy.run_module("parliament", run_name="__main__")
