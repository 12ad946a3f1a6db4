"""Why a command ends without an answer. Each has an exit code (docs/cli.md) and a code for programs that read --json."""

from __future__ import annotations

ANSWERED, FAILED, USAGE, DENIED, NO_ANSWER, UNKNOWN, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130


class CliError(Exception):
    """The command cannot be done. The text is a sentence for the person; `request_id` is of a request that was accepted."""

    exit_code = FAILED
    code = "failed"

    def __init__(self, message: str, *, request_id: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.request_id = request_id


class Wrong(CliError):
    """What was typed or configured cannot be used, or the server says that it cannot be asked so (400, 413, 422)."""

    exit_code = USAGE
    code = "usage"


class Denied(CliError):
    """The server does not know who asks (401), or this is somebody else's (403)."""

    exit_code = DENIED
    code = "denied"


class Unreachable(CliError):
    """The server does not answer, or says that it cannot now (429, 5xx)."""

    exit_code = NO_ANSWER
    code = "unreachable"


class NotYet(CliError):
    """The request was accepted and is being worked on; the time to wait for its answer is over."""

    exit_code = NO_ANSWER
    code = "not_yet"


class Unknown(CliError):
    """There is no such request or session (404)."""

    exit_code = UNKNOWN
    code = "unknown"


class Interrupted(CliError):
    """The person pressed Ctrl-C: nobody waits any more, the work goes on."""

    exit_code = INTERRUPTED
    code = "interrupted"
