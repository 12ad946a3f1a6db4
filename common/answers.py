"""Answers whose headers are complete when they are made."""

from __future__ import annotations

from flask import Response
from werkzeug.datastructures import Headers


class Answer(Response):
    """A response that goes out as it is: werkzeug would parse its Location and look through its headers once more."""

    def get_wsgi_headers(self, environ: object) -> Headers:  # noqa: ARG002 - werkzeug's signature
        """The headers, as werkzeug asks for them before it sends."""
        return self.headers
