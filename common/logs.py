"""Structured logs: one JSON object a line on standard output, with the ids by which a request is found in every function.

Message bodies, tokens and secrets are never logged, at any level.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from common import settings

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
_ids: ContextVar[Mapping[str, str]] = ContextVar("ids", default={})  # noqa: B039 - read only
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class _Formatter(JsonFormatter):
    def __init__(self, function: str) -> None:
        super().__init__(json_ensure_ascii=True)  # no control character of another alphabet reaches a terminal
        self.function = function

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data["ts"] = self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z"
        log_data["level"] = record.levelname
        log_data["function"] = self.function
        log_data["logger"] = record.name
        log_data.update(_ids.get())
        super().add_fields(log_data, record, message_dict)

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 - logging's name
        """Each exception's class and frames, the cause first; not its text, which may quote a body, a row or a token."""
        parts: list[str] = []
        error = ei[1]
        while error is not None:
            frames = "".join(traceback.format_tb(error.__traceback__))
            parts.insert(0, f"{type(error).__module__}.{type(error).__qualname__}\n{frames}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "".join(parts)


def configure(function: str) -> None:
    """Send every log record of this process to standard output as JSON, from LOG_LEVEL (default INFO) up.

    `function` is the name that each line carries. Raises SettingError for an unknown LOG_LEVEL.
    """
    handler = logging.StreamHandler(sys.stdout)
    formatter = _Formatter(function)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.choice("LOG_LEVEL", "INFO", LEVELS))
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a queue under load is no news: it is in the metrics
    # At DEBUG some of these write what they send and receive: slack_sdk and llama_stack_client whole messages.
    for noisy in ("waitress", "urllib3", "psycopg.pool", "httpx", "httpcore", "slack_sdk", "llama_stack_client"):
        logging.getLogger(noisy).setLevel(max(root.level, logging.WARNING))


@contextmanager
def ids(**values: str | None) -> Iterator[None]:
    """Within this block every log line of this thread carries these ids (those that are not None)."""
    token = _ids.set({**_ids.get(), **{name: value for name, value in values.items() if value}})
    try:
        yield
    finally:
        _ids.reset(token)


def note_ids(**values: str | None) -> None:
    """Add ids that became known within the current block, for the rest of it."""
    _ids.set({**_ids.get(), **{name: value for name, value in values.items() if value}})


def known_ids() -> Mapping[str, str]:
    """The ids that a log line would carry now."""
    return _ids.get()
