"""The methods a function takes at its own URL, where parliament hands it every GET and POST."""

from __future__ import annotations

from flask import Request
from werkzeug.exceptions import MethodNotAllowed


def only_post(request: Request) -> None:
    """Raises MethodNotAllowed (405, Allow: POST) for any other method."""
    if request.method != "POST":
        raise MethodNotAllowed(valid_methods=["POST"])
