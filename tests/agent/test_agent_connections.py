"""Streamed calls keep their connection, and end with the answer whatever the server does after it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from llama import Llama
from watchdog import Watchdog

from tests.agent.test_agent_adapter import ask
from tests.agent.test_agent_streaming import Heard, delta, done, events


class Streaming:
    """A server that streams one answer to each call, in chunks; `ends` tells whether it ends its streams."""

    def __init__(self) -> None:
        self.ends = True
        self.connections = 0
        self.over = threading.Event()
        told = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                told.connections += 1

            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                for block in (events(delta("Hel")), events(delta("lo.")), events(done("Hello."))):
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
                if told.ends:
                    self.wfile.write(b"0\r\n\r\n")
                else:
                    told.over.wait(30)
                    self.close_connection = True

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def streaming() -> Iterator[Streaming]:
    server = Streaming()
    yield server
    server.close()


def test_streamed_calls_one_after_the_other_use_one_connection(streaming: Streaming, connect: Callable[..., Llama]) -> None:
    """Regression: the end of the stream was not read, so that each call opened a connection of its own."""
    llama = connect(streaming.url)
    for _ in range(5):
        heard = Heard()
        assert ask(llama, on_text=heard.write).text == heard.text == "Hello."
    assert streaming.connections == 1


def test_a_stream_that_goes_on_after_its_answer_holds_nobody_up(streaming: Streaming, connect: Callable[..., Llama]) -> None:
    streaming.ends = False
    llama = connect(streaming.url, timeout=20)
    began = time.monotonic()
    assert ask(llama, on_text=Heard().write).text == "Hello."
    assert time.monotonic() - began < 10
    assert ask(llama, on_text=Heard().write).text == "Hello."
    assert streaming.connections >= 2  # the first is of no use any more


def test_a_connection_that_was_given_back_is_not_cut_off(
    streaming: Streaming, connect: Callable[..., Llama], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Regression: the wait for a stream's end ran out just when it came, and cut the call that had the connection next."""
    monkeypatch.setattr("llama.END_OF_STREAM", 0.0003)  # about as long as the end takes
    llama = connect(streaming.url)

    def call(_number: int) -> str:
        return ask(llama, on_text=Heard().write).text

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(600))) == ["Hello."] * 600


class TestWatchdog:
    def test_what_is_late_is_cut_off_and_what_is_not_is_left_alone(self) -> None:
        watchdog, cut = Watchdog(), threading.Event()
        ended = threading.Event()
        with watchdog.at(time.monotonic() + 30, ended.set):
            with watchdog.at(time.monotonic() + 0.05, cut.set):  # nearer than the one before it
                assert cut.wait(10)
            with watchdog.at(time.monotonic() + 0.05, ended.set):
                pass
            time.sleep(0.15)  # past the deadline of what has ended
        assert not ended.is_set()

    def test_deadlines_of_many_threads_are_all_kept(self) -> None:
        watchdog = Watchdog()
        cuts = [threading.Event() for _ in range(50)]

        def work(number: int) -> None:
            with watchdog.at(time.monotonic() + 0.02 + (number * 7 % 50) / 500, cuts[number].set):
                assert cuts[number].wait(10)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(15)
        assert all(cut.is_set() for cut in cuts)
