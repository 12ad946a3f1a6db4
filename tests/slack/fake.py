"""A workspace in Slack: its people, its messages, its Web API. It checks every call the way Slack does.

What Slack would refuse is refused with Slack's code; what a careful app does not do is kept in `faults`, which a test wants
empty. `script` makes the next call of a method fail in a way that the real one can.
"""

from __future__ import annotations

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.parts.slack import BOT
from tests.slack.rules import METHODS, SlackError, check_call, faults_of

TOKEN = "xoxb-fake-slack-token"  # pragma: allowlist secret
BOT_ID = "B0BOT"
Message = dict[str, Any]


class FakeSlack:
    """The workspace; `url` is the base of its Web API. `on_change` hears of every message that a method changed."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.on_change: Callable[[str, str, Message], None] = lambda _kind, _channel, _message: None
        self._channels: defaultdict[str, dict[str, Message]] = defaultdict(dict)
        self._scripts: defaultdict[str, list[tuple[int, dict[str, str], str]]] = defaultdict(list)
        self._last_ts = 0
        self._changed = threading.Condition(threading.RLock())
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/api/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def say(self, channel: str, user: str, text: str, thread: str | None = None) -> Message:
        """A person posts a message."""
        with self._changed:
            ts = self._next_ts()
            message: Message = {"type": "message", "user": user, "text": text, "ts": ts}
            if thread:
                message["thread_ts"] = thread
            self._channels[channel][ts] = message
            return message

    def know(self, channel: str, ts: str, user: str) -> None:
        """There is a person's message of that time."""
        with self._changed:
            self._channels[channel][ts] = {"type": "message", "user": user, "text": "…", "ts": ts}

    def messages(self, channel: str, thread: str | None = None) -> list[Message]:
        """The messages of a channel (those outside threads), or of a thread with its first, oldest first."""
        with self._changed:
            every = sorted(self._channels[channel].values(), key=lambda one: str(one["ts"]))
            if thread is None:
                return [dict(one) for one in every if one.get("thread_ts") in (None, one["ts"])]
            return [dict(one) for one in every if thread in (one["ts"], one.get("thread_ts"))]

    def ours(self, channel: str, thread: str | None = None) -> list[Message]:
        """The bot's messages there."""
        return [one for one in self.messages(channel, thread) if one["user"] == BOT]

    def wait_for(self, what: Callable[[], Any], why: str, seconds: float = 40) -> Any:
        """Wait, woken by every change, until `what` gives something true."""
        with self._changed:
            assert self._changed.wait_for(what, seconds), f"not within {seconds} s: {why}; calls: {self.called()}"
            return what()

    def called(self) -> list[str]:
        """The methods that were called, in order."""
        return [method for method, _ in self.calls]

    def script(self, method: str, *, status: int = 200, error: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Make the next call fail: with an HTTP status or a code. `lost`: it is done, but its answer never arrives."""
        self._scripts[method].append((status, dict(headers or {}), error))

    def clear(self) -> None:
        """Forget everything."""
        with self._changed:
            self._channels.clear()
            self._scripts.clear()
            self.calls.clear()
            self.faults.clear()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

    def _next_ts(self) -> str:
        self._last_ts = max(self._last_ts + 1, time.time_ns() // 1000)
        return f"{self._last_ts // 1_000_000}.{self._last_ts % 1_000_000:06d}"

    def _answer(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        check_call(method, arguments)
        channel = str(arguments.get("channel", ""))
        match method:
            case "auth.test":
                return {"user_id": BOT, "bot_id": BOT_ID, "team_id": "T0TEAM"}
            case "conversations.open":
                return {"channel": {"id": "D" + str(arguments["users"])[1:]}}
            case "chat.postMessage":
                return self._post("D" + channel[1:] if channel[0] in "UW" else channel, arguments)
            case "chat.update" | "chat.delete":
                return self._change(method, channel, str(arguments["ts"]), arguments)
            case "conversations.replies":
                if arguments["ts"] not in self._channels[channel]:
                    raise SlackError("thread_not_found")
                return _page(self.messages(channel, arguments["ts"]), arguments, keep_first=True)
            case _:
                return _page(self.messages(channel)[::-1], arguments)

    def _post(self, channel: str, arguments: dict[str, Any]) -> dict[str, Any]:
        thread = arguments.get("thread_ts")
        if thread is not None and thread not in self._channels[channel]:
            raise SlackError("invalid_thread_ts")
        kept = ("text", "blocks", "thread_ts", "metadata")
        message = {"type": "message", "user": BOT, "bot_id": BOT_ID, "ts": self._next_ts(), "text": ""}
        message |= {name: arguments[name] for name in kept if arguments.get(name)}
        self._channels[channel][str(message["ts"])] = message
        self.on_change("posted", channel, dict(message))
        return {"channel": channel, "ts": message["ts"], "message": message}

    def _change(self, method: str, channel: str, ts: str, arguments: dict[str, Any]) -> dict[str, Any]:
        message = self._channels[channel].get(ts)
        if message is None:
            raise SlackError("message_not_found")
        if message["user"] != BOT:
            raise SlackError("cant_update_message" if method == "chat.update" else "cant_delete_message")
        if method == "chat.delete":
            del self._channels[channel][ts]
            self.on_change("deleted", channel, dict(message))
        else:
            message |= {name: arguments[name] for name in ("text", "blocks", "metadata") if name in arguments}
            message["edited"] = {"user": BOT, "ts": self._next_ts()}
            self.on_change("changed", channel, dict(message))
        return {"channel": channel, "ts": ts}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                fake._serve(self)

            def do_POST(self) -> None:
                fake._serve(self)

            def log_message(self, format: str, *args: object) -> None:
                """Tests read `calls` instead."""

        return Handler

    def _serve(self, request: BaseHTTPRequestHandler) -> None:
        method = urlsplit(request.path).path.removeprefix("/api/")
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        content_type = request.headers.get("content-type", "")
        try:
            arguments = _arguments(urlsplit(request.path).query, content_type, body)
        except (ValueError, TypeError):
            return _reply(request, {"ok": False, "error": "invalid_json"})
        with self._changed:
            self.calls.append((method, arguments))
            status, headers, error = self._scripts[method].pop(0) if self._scripts[method] else (200, {}, "")
            if status != 200 or error not in ("", "lost"):
                self._changed.notify_all()
                return _reply(request, {"ok": False, "error": error or "internal_error"}, status, headers)
            try:
                _check_token(request.headers.get("authorization"))
                answer = {"ok": True, **self._answer(method, arguments)}
            except SlackError as refusal:
                answer = {"ok": False, "error": str(refusal)}
            if method in METHODS:
                self.faults += faults_of(method, request.command, content_type, arguments)
            self._changed.notify_all()
        if error == "lost":
            request.close_connection = True
            request.connection.close()
            return None
        return _reply(request, answer)


def _check_token(authorization: str | None) -> None:
    if not authorization:
        raise SlackError("not_authed")
    if authorization != f"Bearer {TOKEN}":
        raise SlackError("invalid_auth")


def _arguments(query: str, content_type: str, body: bytes) -> dict[str, Any]:
    arguments: dict[str, Any] = dict(parse_qsl(query))
    if content_type.startswith("application/json"):
        return {**arguments, **json.loads(body)}
    return {**arguments, **dict(parse_qsl(body.decode(), keep_blank_values=True))}


def _page(messages: list[Message], arguments: Mapping[str, Any], *, keep_first: bool = False) -> dict[str, Any]:
    """A page; a thread's first message is always there, whatever the window."""
    start, limit = int(arguments.get("cursor") or 0), int(arguments.get("limit", 100))
    oldest = float(arguments.get("oldest", 0))
    within = [one for number, one in enumerate(messages) if (keep_first and number == 0) or float(one["ts"]) > oldest]
    page = within[start : start + limit]
    if str(arguments.get("include_all_metadata", "")).lower() not in ("1", "true"):
        page = [{name: value for name, value in one.items() if name != "metadata"} for one in page]
    more = start + limit < len(within)
    return {"messages": page, "has_more": more} | (
        {"response_metadata": {"next_cursor": str(start + limit)}} if more else {}
    )


def _reply(
    request: BaseHTTPRequestHandler, answer: dict[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> None:
    body = json.dumps(answer).encode()
    request.send_response(status)
    for name, value in {"content-type": "application/json; charset=utf-8", **(headers or {})}.items():
        request.send_header(name, value)
    request.send_header("content-length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
