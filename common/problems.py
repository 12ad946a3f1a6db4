"""The one place where an error becomes an HTTP answer: RFC 9457 problem+json."""

from __future__ import annotations

import math
from typing import Any

from flask import Response
from pydantic_core import to_json
from werkzeug.exceptions import HTTPException

from common.errors import Invalid, ServiceError

_URN = "urn:self-service-agent:problem:"
_HTTP_TITLES = {404: "Not found", 405: "Method not allowed"}
_HTTP_DETAILS = {404: "There is nothing at this path.", 405: "This path does not take that method."}


def problem_document(status: int, title: str, detail: str, **more: Any) -> dict[str, Any]:
    """The members of a problem (RFC 9457, section 3.1); `type` is a URN made from the title."""
    return {
        "type": _URN + title.lower().replace(" ", "-"),
        "title": title,
        "status": status,
        "detail": detail,
        **more,
    }


def problem_response(document: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """A Flask response that carries a problem."""
    return Response(to_json(document), document["status"], headers, content_type="application/problem+json")


def from_error(error: ServiceError) -> Response:
    """What the caller hears of an error: its status, its sentence, the fields, when to come back. Nothing else."""
    more: dict[str, Any] = {}
    if isinstance(error, Invalid) and error.errors:
        more["errors"] = [{"loc": one.loc, "msg": one.msg} for one in error.errors]
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(min(error.retry_after, 86_400))))
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return problem_response(problem_document(error.status, error.title, error.detail, **more), headers)


def internal_error() -> Response:
    """What the caller hears when a function failed by itself."""
    return problem_response(problem_document(500, "Internal error", "The function failed; the same call may work later."))


def from_http_exception(error: HTTPException) -> Response:
    """What Flask itself refuses (unknown path, wrong method) as a problem; its header Allow is kept."""
    code = error.code or 500
    if code < 400 and error.response is not None:  # a redirect is an answer, not an error
        return Response(status=code, headers=error.get_response().headers)
    title = _HTTP_TITLES.get(code, error.name)
    response = problem_response(problem_document(code, title, _HTTP_DETAILS.get(code, "The HTTP request cannot be read.")))
    for name, value in error.get_headers():
        if name.lower() == "allow":
            response.headers[name] = value
    return response
