"""The answers that are no success, from common.errors: RFC 9457 problem+json, one response for each status."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from common import errors
from common.problems import problem_document

PROBLEM: dict[str, Any] = {
    "description": "RFC 9457. Never the text of an exception.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "A URN made from the title."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "A sentence."},
        "errors": {
            "description": "422: each field that is missing or wrong.",
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"loc": {"type": "string"}, "msg": {"type": "string"}},
                "required": ["loc", "msg"],
            },
        },
    },
    "required": ["type", "title", "status", "detail"],
}
_INTERNAL = "The function failed; the same call may work later."
_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    429: {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
    503: {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
}


def refuses(*statuses: int) -> dict[str, Any]:
    """References to the responses of these statuses."""
    return {str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in sorted(statuses)}


def problem_responses() -> dict[str, Any]:
    """The responses by name, one for each status that an error of ours has."""
    return {_name(status): _response(status, title, says) for status, (title, says) in sorted(_errors().items())}


def _errors() -> dict[int, tuple[str, str]]:
    found = {500: ("Internal error", _INTERNAL)}
    for one in _classes(errors.ServiceError):
        found[one.status] = (one.title, (one.__doc__ or "").strip().split("\n")[0])
    return found


def _classes(base: type[errors.ServiceError]) -> Iterator[type[errors.ServiceError]]:
    for one in base.__subclasses__():
        if one.__module__ == errors.__name__:
            yield one
            yield from _classes(one)


def _name(status: int) -> str:
    return "".join(word.capitalize() for word in _errors()[status][0].split())


def _response(status: int, title: str, says: str) -> dict[str, Any]:
    example = problem_document(status, title, "A sentence that says more.")
    return {
        "description": says,
        **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}},
    }
