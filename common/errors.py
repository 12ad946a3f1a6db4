"""What can go wrong, and what that means for whoever asked.

A handler raises one of these; it never chooses a status. The host turns the class into an HTTP status in one place
(`common.problems`), so that brokers retry what may pass and dead-letter what cannot (knative/specs, eventing data plane).
"""

from __future__ import annotations

from dataclasses import dataclass


class ServiceError(Exception):
    """Something went wrong in a way that the caller is told about.

    `detail` is the sentence the caller reads: it never holds a secret, a message body or another exception's text.
    """

    status = 500
    title = "Internal error"
    retry_after: float | None = None

    def __init__(self, detail: str, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if retry_after is not None:
            self.retry_after = retry_after


class Unavailable(ServiceError):
    """Something that we need does not answer; the same call may work later. Nothing was lost or half done."""

    status = 503
    title = "Temporarily unavailable"
    retry_after = 1.0


class InProgress(ServiceError):
    """The same event, or an earlier turn of its session, is being worked on: come back later (CloudEvents HTTP, 409)."""

    status = 409
    title = "Still in progress"
    retry_after = 1.0


class TooMany(ServiceError):
    """The caller asks faster than is allowed."""

    status = 429
    title = "Too many requests"
    retry_after = 1.0


class Malformed(ServiceError):
    """What came cannot be read at all: bad JSON, no CloudEvent. The same bytes can never work."""

    status = 400
    title = "Malformed request"


class Unauthenticated(ServiceError):
    """Who is asking could not be verified."""

    status = 401
    title = "Not authenticated"


class Forbidden(ServiceError):
    """The caller is known and may not do this."""

    status = 403
    title = "Not allowed"


class NotFound(ServiceError):
    """There is no such thing, or not yet."""

    status = 404
    title = "Not found"


class TooLarge(ServiceError):
    """The body is over MAX_BODY_BYTES."""

    status = 413
    title = "Content too large"


class UnsupportedMediaType(ServiceError):
    """The body is not of a type that is read here."""

    status = 415
    title = "Unsupported media type"


@dataclass(frozen=True)
class FieldError:
    """One field that is wrong: where (`body.content`) and why."""

    loc: str
    msg: str


class Invalid(ServiceError):
    """Well-formed, but fields are missing or wrong; each is named."""

    status = 422
    title = "Invalid fields"

    def __init__(self, detail: str, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(detail)
        self.errors = errors


class TurnRefused(Exception):
    """The agent's turn can never succeed (unknown model, bad request): the request ends as failed.

    `code` goes to `request_logs.error_code`; `sentence` is what the person reads.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(code)
        self.code = code
        self.sentence = sentence


class SettingError(Exception):
    """An environment variable holds what cannot be used; the text names it and never shows a secret's value."""
