"""Flame graphs in the documentation say nothing of the machine on which they were made."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.flame import anonymous

ROOT = Path(__file__).parents[2]
_PATH = re.compile(r"[ (>]/(?:home|root|work|usr|opt|tmp|srv|var)/")


def test_a_frame_is_named_as_it_is_imported() -> None:
    frames = (
        "Host.handle (/home/ann/code/common/host.py:99) (3 samples), f (/usr/lib/python3.11/json/encoder.py:7) (1 samples)"
    )
    frames += ", g (/home/ann/.venv/lib/python3.11/site-packages/psycopg/connection.py:3) (1 samples)"
    assert anonymous(frames) == (
        "Host.handle (common/host.py:99) (3 samples), f (json/encoder.py:7) (1 samples)"
        ", g (psycopg/connection.py:3) (1 samples)"
    )


def test_no_flame_graph_names_a_path() -> None:
    for graph in ROOT.glob("docs/flames/*.svg"):
        assert not _PATH.search(graph.read_text(encoding="utf-8")), f"{graph.name} names a path of a machine"
