"""Reading JSON bodies: whatever the bytes, the result can be stored, or the caller is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.bodies import parse_json
from common.errors import Invalid, Malformed

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    try:
        parse_json(raw)
    except (Malformed, Invalid):
        return


@given(VALUES)
def test_what_is_parsed_can_be_stored_in_postgresql(value: Any) -> None:
    try:
        parsed = parse_json(json.dumps(value))
    except (Malformed, Invalid):
        return
    text = json.dumps(parsed, ensure_ascii=False, allow_nan=False)
    assert "\\u0000" not in text
    text.encode("utf-8")


def test_nesting_is_bounded() -> None:
    deep = json.dumps({"a": 1})
    for _ in range(40):
        deep = f"[{deep}]"
    with pytest.raises(Invalid):
        parse_json(deep)


def test_the_number_of_named_fields_is_bounded() -> None:
    with pytest.raises(Invalid) as refused:
        parse_json(json.dumps(["\x00"] * 1000))
    assert len(refused.value.errors) == 20
