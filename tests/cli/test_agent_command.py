"""`agent` as a process against the running platform: ask, chat, history, status, trace; pipes, terminals, exit codes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import uuid
from collections.abc import Callable

import pytest

from tests.cli.support import COMMAND, ROOT, Person, Terminal
from tests.parts.llama import DemoModel
from tests.parts.net import free_port
from tests.platform.support import until

QUESTION = "I want to refresh my laptop"
ANSWER = "I can help with your laptop refresh"


class TestAsk:
    def test_the_answer_is_all_that_stands_on_standard_output(self, ann: Person) -> None:
        ran = ann.run("ask", QUESTION)
        assert (ran.code, ran.err) == (0, "")
        assert ran.out.startswith(f"About “{QUESTION}”: {ANSWER}")

    def test_the_question_comes_through_a_pipe(self, ann: Person) -> None:
        assert ANSWER in ann.run("ask", stdin=QUESTION + "\n").out
        assert ANSWER in ann.run("ask", "-", stdin=QUESTION).out

    def test_a_dash_stands_for_what_comes_through_the_pipe(self, ann: Person, demo_model: DemoModel) -> None:
        assert ann.run("ask", "Is this a laptop?", "-", stdin="model X1\n").code == 0
        assert "Is this a laptop?\n\nmodel X1" in demo_model.calls()[0]["last_user_message"]

    def test_two_questions_are_one_conversation_until_a_new_one_is_begun(self, ann: Person) -> None:
        first = ann.run("ask", "--json", QUESTION).json()
        second = ann.run("ask", "--json", "What did I ask first?").json()
        assert second["session_id"] == first["session_id"]
        assert QUESTION in second["response"]["content"]
        other = ann.run("ask", "--json", "--new", QUESTION).json()
        after = ann.run("ask", "--json", QUESTION).json()
        assert first["session_id"] != other["session_id"] == after["session_id"]
        named = ann.run("ask", "--json", "--session", "default", QUESTION).json()
        assert named["session_id"] == first["session_id"]

    def test_json_is_the_request_as_its_reader_sees_it(self, ann: Person) -> None:
        found = ann.run("ask", QUESTION, "--json").json()
        assert (found["status"], found["integration_type"], found["agent_id"]) == ("completed", "cli", "laptop-refresh")
        assert ann.run("--json", "status", found["request_id"]).json() == found

    def test_the_agent_is_told_the_subcommand_and_nothing_of_the_machine(self, ann: Person) -> None:
        request_id = ann.run("ask", "--json", QUESTION, MY_SECRET="do-not-tell").json()["request_id"]
        log = json.dumps([ann.run("trace", "--json", request_id).json()])
        assert "do-not-tell" not in log

    def test_not_waiting_says_the_id_by_which_the_answer_is_fetched(self, ann: Person) -> None:
        ran = ann.run("ask", "--no-wait", QUESTION)
        assert ran.code == 0
        assert uuid.UUID(ran.out.strip())
        assert ANSWER in ann.run("status", ran.out.strip(), "--wait", "30").out
        assert ANSWER in ann.run("status", "--wait", "30").out  # the last one

    def test_the_same_key_is_the_same_request(self, ann: Person, demo_model: DemoModel) -> None:
        ids = {ann.run("ask", "--json", "--key", "once", QUESTION).json()["request_id"] for _ in range(2)}
        assert len(ids) == 1
        assert len({call["last_user_message"] for call in demo_model.calls()}) == 1

    def test_no_answer_in_time_is_exit_code_4_and_the_work_goes_on(self, ann: Person, demo_model: DemoModel) -> None:
        demo_model.control(delay_ms=6000)  # longer than two commands take to start, also on a busy machine
        ran = ann.run("ask", "--json", "--timeout", "0.3", "Which printers are there?")
        error = ran.json()["error"]
        assert (ran.code, error["code"]) == (4, "not_yet")
        assert ann.run("status", error["request_id"]).code == 4
        assert ann.run("status", "--wait", "30", error["request_id"]).code == 0

    def test_a_failed_request_is_exit_code_1_and_a_sentence(self, ann: Person, demo_model: DemoModel) -> None:
        demo_model.control(fail_next=100, status=400)
        ran = ann.run("ask", QUESTION)
        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith("agent: ")
        assert ann.run("status", "--json").json()["status"] == "failed"


class TestOnATerminal:
    def test_the_answer_is_seen_while_it_is_written_and_stands_there_once(
        self, terminal: Callable[..., Terminal], demo_model: DemoModel
    ) -> None:
        demo_model.control(word_delay_ms=60)
        shown = terminal("ask", "Which printers are there?")
        until(lambda: len(demo_model.calls()) >= 1, "the model was asked")
        assert shown.wait() == 0
        # THEN pieces were drawn before the end, and wiped away
        frames = re.split(r"\x1b\[2K", shown.raw())
        assert len(frames) > 5
        last = re.sub(r"\s+", " ", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", frames[-1]))
        assert last.count("You wrote: “Which printers are there?”") == 1
        assert "completed · routing-agent" in last

    def test_without_a_question_it_says_what_to_type(self, terminal: Callable[..., Terminal]) -> None:
        shown = terminal("ask")
        assert shown.wait() == 2
        assert "what is the question?" in shown.text()

    def test_ctrl_c_ends_the_waiting_and_not_the_work(
        self, terminal: Callable[..., Terminal], ann: Person, demo_model: DemoModel
    ) -> None:
        demo_model.control(delay_ms=1500)
        shown = terminal("ask", QUESTION)
        demo_model.wait_for_calls(1)
        shown.type("\x03")
        assert shown.wait() == 130
        [command] = re.findall(r"agent (status \S+ --wait 60)", shown.text())
        assert ANSWER in ann.run(*command.split()).out

    def test_a_chat_goes_on_after_ctrl_c_and_ends_with_ctrl_d(
        self, terminal: Callable[..., Terminal], ann: Person, demo_model: DemoModel
    ) -> None:
        shown = terminal("chat")
        shown.wait_for("› ")
        shown.type(QUESTION + "\r")
        shown.wait_for("completed")
        demo_model.reset()
        demo_model.control(delay_ms=1500)
        shown.wait_for("› ", times=2)
        shown.type("And a printer?\r")
        demo_model.wait_for_calls(1)
        shown.type("\x03")
        shown.wait_for("agent status")
        demo_model.control(delay_ms=0)
        shown.wait_for("› ", times=3)
        shown.type("What did I ask first?\r")
        shown.wait_for("The first thing you wrote was")
        shown.wait_for("completed", times=2)
        shown.wait_for("› ", times=4)
        shown.type("\x03")
        shown.wait_for("Ctrl-D ends")
        shown.type("\x04")
        assert shown.wait() == 0
        said = [one["content"] for one in ann.run("history", "--json").json()["messages"] if one["role"] == "user"]
        assert said == [QUESTION, "And a printer?", "What did I ask first?"]
        assert "What did I ask first?" in (ann.home / ".local/state/agent/chat_history").read_text()

    def test_what_the_model_writes_cannot_command_the_terminal(
        self, terminal: Callable[..., Terminal], demo_model: DemoModel
    ) -> None:
        demo_model.control(say="before \x1b]0;owned\x07 \x1b[2J after")  # type: ignore[arg-type]
        shown = terminal("ask", "Hello")
        assert shown.wait() == 0
        assert "after" in shown.text()
        assert "\x1b]0;" not in shown.raw()
        assert "\x1b[2J" not in shown.raw()


class TestChatThroughAPipe:
    def test_a_line_a_question_an_object_an_answer(self, ann: Person) -> None:
        ran = ann.run("chat", "--json", stdin=f"{QUESTION}\n\nWhat did I ask first?\n")
        first, second = (json.loads(line) for line in ran.out.splitlines())
        assert ran.code == 0
        assert first["session_id"] == second["session_id"]
        assert QUESTION in second["response"]["content"]


class TestReading:
    def test_history_shows_who_said_what(self, ann: Person) -> None:
        session_id = ann.run("ask", "--json", QUESTION).json()["session_id"]
        by_id, current = ann.run("history", session_id), ann.run("history")
        assert by_id.out == current.out
        assert re.search(rf"^ann-\S+ · .*\n{QUESTION}\n\nlaptop-refresh · .*\nAbout “", by_id.out)
        assert ann.run("history", "--json").json()["session_id"] == session_id

    def test_history_of_a_conversation_whose_answer_nobody_has_seen_yet(self, ann: Person) -> None:
        ann.run("ask", "--new", "--no-wait", QUESTION)
        assert ann.run("history", "--json").json()["messages"][0]["content"] == QUESTION

    def test_trace_shows_each_function_with_its_time(self, ann: Person) -> None:
        asked = ann.run("ask", "--json", QUESTION).json()
        found = ann.run("trace", asked["request_id"], "--json").json()
        # An answer that is there at once has no first words of its own.
        assert [(one["function"], one["step"]) for one in found["steps"] if one["step"] != "first words"] == [
            ("ingest-cli", "accepted"),
            ("session-upsert", "recorded"),
            ("agent-invoke", "started"),
            ("agent-invoke", "answered"),
        ]
        times = [one["after_ms"] for one in found["steps"]]
        assert times == sorted(times)
        assert times[0] == 0
        assert found["steps"][-1]["detail"]["agent"] == "laptop-refresh"
        assert found["dead_letters"] == []
        shown = ann.run("trace").out
        assert re.search(r"^ +\+\d+ ms  agent-invoke +answered +agent laptop-refresh, model calls", shown, re.MULTILINE)

    def test_another_persons_request_and_session_are_exit_code_3(self, ann: Person) -> None:
        asked = ann.run("ask", "--json", QUESTION).json()
        for command in (("status", asked["request_id"]), ("trace", asked["request_id"]), ("history", asked["session_id"])):
            ran = ann.run(*command, "--json", "--user", "mallory")
            assert (ran.code, ran.json()["error"]["code"]) == (3, "denied")

    @pytest.mark.parametrize(
        "command", [("status", "nope"), ("trace", "nope"), ("history", str(uuid.uuid4())), ("history",)]
    )
    def test_what_is_not_there_is_exit_code_5(self, ann: Person, command: tuple[str, ...]) -> None:
        ran = ann.run(*command, "--json")
        assert (ran.code, ran.json()["error"]["code"]) == (5, "unknown")


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "stdin"),
        [
            (("ask",), b"  \n"),
            (("ask",), b"\xff\xfe"),
            (("ask", "--new", "--session", "x", "hi"), b""),
            (("ask", "x" * 32_001), b""),
            (("ask", "--timeout", "soon", "hi"), b""),
            (("--server", "ftp://x", "ask", "hi"), b""),
            (("--server", "https://me:secret@x", "ask", "hi"), b""),  # pragma: allowlist secret
            (("bogus",), b""),
        ],
    )
    def test_what_cannot_be_used_is_exit_code_2_and_one_object(
        self, ann: Person, arguments: tuple[str, ...], stdin: bytes
    ) -> None:
        ran = ann.run(*arguments, "--json", stdin=stdin)
        assert (ran.code, ran.json()["error"]["code"], ran.err) == (2, "usage", "")
        plain = ann.run(*arguments, stdin=stdin)
        assert (plain.code, plain.out) == (2, "")
        assert plain.err

    def test_a_server_that_is_not_there_is_exit_code_4(self, ann: Person) -> None:
        ran = ann.run("--server", f"http://127.0.0.1:{free_port()}", "status", "x", "--json")
        assert (ran.code, ran.json()["error"]["code"]) == (4, "unreachable")

    @pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
    def test_a_shells_completion_completes_the_commands(self, ann: Person, shell: str) -> None:
        assert "_AGENT_COMPLETE" in ann.run("completion", shell).out
        completed = ann.run(
            _AGENT_COMPLETE=f"{shell}_complete", COMP_WORDS="agent st", COMP_CWORD="1" if shell != "fish" else "st"
        )
        assert "status" in completed.out

    def test_a_reader_that_goes_away_is_no_traceback(self, ann: Person) -> None:
        shell = f"{' '.join(COMMAND)} --help | true"
        ran = subprocess.run(["sh", "-c", shell], cwd=ROOT, env=ann.environment, capture_output=True, check=False)
        assert b"Traceback" not in ran.stderr

    def test_sigterm_while_waiting_ends_it(self, ann: Person, demo_model: DemoModel) -> None:
        demo_model.control(delay_ms=1500)
        process = subprocess.Popen([*COMMAND, "ask", QUESTION], cwd=ROOT, env=ann.environment, stdin=subprocess.DEVNULL)
        demo_model.wait_for_calls(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == -signal.SIGTERM
