"""What the tests of the platform's page share: asking, the stream of what happens, dead letters."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import urllib3

from tests.parts.net import Answer, call
from tests.platform.support import DEADLINE, Platform

WEB = "/api/v1/requests/web"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
ATTACK = '<script>alert("script")</script><img src=x onerror=alert("image")>'
FOREIGN = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
OWN = {"sec-fetch-site": "same-origin"}


def get(platform: Platform, path: str, **headers: str) -> Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return call("GET", platform.url + path, headers=given)


def ask(platform: Platform, content: str = "I want to refresh my laptop", **body: str) -> str:
    answer = call("POST", platform.url + WEB, json_body={"user_id": "ann", "content": content, **body})
    assert answer.status == 202, answer.body
    request_id: str = answer.json()["request_id"]
    return request_id


@contextmanager
def feed(platform: Platform, query: str = "") -> Iterator[Callable[[Callable[[dict[str, Any]], bool]], dict[str, Any]]]:
    """The stream of what happens; the function that it gives reads until a message is the wanted one."""
    answer = urllib3.request(
        "GET", f"{platform.url}/_platform/feed{query}", preload_content=False, timeout=30, retries=False
    )
    assert answer.headers["content-type"] == "text/event-stream"

    def until_it_says(wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + DEADLINE
        while True:
            line = answer.readline()
            assert line, "the stream ended"
            assert time.monotonic() < deadline, "it was not said in time"
            if line.startswith(b"data: "):
                change: dict[str, Any] = json.loads(line[6:])
                if wanted(change):
                    return change

    yield until_it_says
    answer.close()


class Letters:
    """Dead letters of a platform that has no function to make any: rows as dead-letter writes them."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._url = platform.description()["database"]["url"]

    def add(self, request_id: str) -> int:
        attributes = {
            "specversion": "1.0",
            "id": request_id,
            "source": "/self-service-agent/ingest-web",
            "type": "com.self-service-agent.request.created",
            "requestid": request_id,
            "datacontenttype": "application/json",
        }
        event = json.dumps({"attributes": attributes, "data": {"request_id": request_id, "content": ATTACK}})
        [(number,)] = self.rows(
            "INSERT INTO dead_letters (event_source, event_id, event_type, request_id, destination, error_code, event)"
            " VALUES (%s, %s, %s, %s, 'http://127.0.0.1:1/', '503', %s) RETURNING dead_letter_id",
            attributes["source"], request_id, attributes["type"], request_id, event,
        )  # fmt: skip
        return int(number)

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._url, autocommit=True) as connection:
            return connection.execute(statement, values).fetchall()

    def replay(self, number: int, **headers: str) -> Answer:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return call("POST", f"{self._platform.url}/_platform/dead-letters/{number}/replay", headers=given)
