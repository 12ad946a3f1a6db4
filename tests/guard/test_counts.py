"""What a request costs in statements, events, log lines, threads and imports stays what it is. Nothing here is a time.

The limits and their reasons are in limits.toml.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import imports
from tests.guard import way
from tests.guard.limits import LIMITS, grown


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[way.Chain]:
    with way.chain(tmp_path_factory.mktemp("guard") / "postgres") as running:
        yield running


@pytest.fixture(scope="module")
def ways(chain: way.Chain) -> dict[str, way.Way]:
    """Each kind of request, once."""
    return {kind: chain.walk(kind) for kind in way.WAYS}


@pytest.mark.parametrize("kind", way.WAYS)
def test_a_request_takes_no_more_statements(ways: dict[str, way.Way], kind: str) -> None:
    assert not grown(ways[kind].statements, LIMITS["statements"][kind])


@pytest.mark.parametrize("kind", way.WAYS)
def test_a_request_writes_no_more_log_lines(ways: dict[str, way.Way], kind: str) -> None:
    assert not grown(ways[kind].log_lines, LIMITS["log_lines"][kind])


@pytest.mark.parametrize("kind", way.WAYS)
def test_an_event_is_no_larger(ways: dict[str, way.Way], kind: str) -> None:
    assert not grown({name: way.size(event) for name, event in ways[kind].events.items()}, LIMITS["event_bytes"][kind])


def test_a_function_has_no_more_threads(chain: way.Chain, ways: dict[str, way.Way]) -> None:
    assert ways
    threads = {
        name: len(list(Path(f"/proc/{function.process.pid}/task").iterdir())) for name, function in chain.functions.items()
    }
    assert not grown(threads, LIMITS["threads"])


@pytest.mark.parametrize("name", imports.FUNCTIONS)
def test_a_function_imports_no_more_before_it_listens(name: str) -> None:
    modules = imports.modules(name)
    assert not grown({name: len(modules)}, LIMITS["modules"])
    packages = {module.partition(".")[0] for module in modules}
    forbidden = {*LIMITS["packages"]["never"], *(one for one, of in LIMITS["packages"]["only"].items() if name not in of)}
    assert not packages & forbidden, f"{name} imports what it must not before it listens"


def test_what_the_table_does_not_name_may_not_be_there() -> None:
    assert grown({"a": 1, "b": 3, "c": 1}, {"a": 1, "b": 2}) == ["b: 3, at most 2", "c: 1, at most 0"]
