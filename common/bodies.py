"""Reading a request's body: bytes to a checked model, with every fault named."""

from __future__ import annotations

import math
from typing import Annotated, Any, TypeVar

from flask import Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import from_json

from common import settings
from common.errors import FieldError, Invalid, Malformed, UnsupportedMediaType

MAX_CONTENT_CHARS = settings.integer("MAX_CONTENT_CHARS", 32_000, least=1, most=1_000_000)
_MAX_DEPTH = 32
_MAX_ERRORS = 20
_INT64 = 2**63

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Id = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=256)]


class RequestBody(BaseModel):
    """What every integration's body has. Unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    user_id: Id
    content: Annotated[Text, Field(max_length=MAX_CONTENT_CHARS)]
    request_type: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "message"


B = TypeVar("B", bound=RequestBody)


def read_json(request: Request) -> Any:
    """The request's JSON body.

    Raises UnsupportedMediaType when it is not said to be JSON, Malformed when it is none, Invalid when it holds what can
    be written in JSON but not stored: NUL, numbers out of range.
    """
    if request.mimetype != "application/json" and not request.mimetype.endswith("+json"):
        raise UnsupportedMediaType("The body must be application/json.")
    return parse_json(request.get_data())


def parse_json(raw: bytes | str) -> Any:
    """A JSON text (RFC 8259: no NaN, no lone surrogates) as Python objects. Raises as read_json does."""
    try:
        value = from_json(raw, allow_inf_nan=False)
    except ValueError:
        # The parser's message may quote the body.
        raise Malformed("The body is not valid JSON.") from None
    errors: list[FieldError] = []
    _find_unstorable(value, "body", 0, errors)
    if errors:
        raise Invalid("Some fields hold what cannot be stored.", tuple(errors[:_MAX_ERRORS]))
    return value


def check_body(value: Any, model: type[B]) -> B:
    """A parsed JSON value as `model`.

    Raises Invalid with each field that is missing or wrong; values are never repeated.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        errors = tuple(
            FieldError(".".join(("body", *map(str, one["loc"]))), one["msg"])
            for one in error.errors(include_url=False, include_input=False)[:_MAX_ERRORS]
        )
        raise Invalid("Some fields are missing or wrong.", errors) from None


def read_body(request: Request, model: type[B]) -> B:
    """The request's JSON body as `model`. Raises as read_json and check_body do."""
    return check_body(read_json(request), model)


def _find_unstorable(value: Any, where: str, depth: int, errors: list[FieldError]) -> None:
    if isinstance(value, str):
        if "\x00" in value:
            errors.append(FieldError(where, "must not contain NUL"))
    elif isinstance(value, dict):
        if depth >= _MAX_DEPTH:
            errors.append(FieldError(where, f"must not be nested deeper than {_MAX_DEPTH}"))
            return
        for key, item in value.items():
            if "\x00" in key:
                errors.append(FieldError(where, "must not have a key with NUL"))
            _find_unstorable(item, f"{where}.{key[:64]}", depth + 1, errors)
    elif isinstance(value, list):
        if depth >= _MAX_DEPTH:
            errors.append(FieldError(where, f"must not be nested deeper than {_MAX_DEPTH}"))
            return
        for index, item in enumerate(value):
            _find_unstorable(item, f"{where}.{index}", depth + 1, errors)
    elif isinstance(value, int):
        if not -_INT64 <= value < _INT64:
            errors.append(FieldError(where, "must be a 64 bit integer"))
    elif isinstance(value, float) and not math.isfinite(value):
        errors.append(FieldError(where, "must be a finite number"))
