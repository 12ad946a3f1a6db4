"""The state machine: what a broker, a crash and a second worker may do, in any order."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.parts.events import PREFIX, request_created
from tests.parts.functions import Event
from tests.parts.net import Answer
from tests.statemachine.invariants import FINISHED, Tables
from tests.statemachine.world import CRASHES, TOOL, WOKEN_BY, World

_READY = PREFIX + "agent.response-ready"
_MAY_PASS = (409, 500, 503)  # what a broker tries again
_ROUNDS = 60  # in which everything must have ended, once nothing is broken any more


class Chain(RuleBasedStateMachine):
    """Every event that ever was may be delivered again at any time."""

    world: World

    @initialize()
    def begin(self) -> None:
        """Nothing has happened."""
        self.world.empty()
        self.tables = Tables(self.world.postgres)
        self.events: list[Event] = []
        self.replies: dict[tuple[str, str], Event] = {}
        self.asked: dict[str, str] = {}
        self.stalled: list[dict[str, Any]] = []
        self.published = 0

    @rule(conversation=st.integers(0, 1), tool=st.booleans(), earlier=st.integers(0, 3))
    def ask(self, conversation: int, tool: bool, earlier: int) -> None:
        """Somebody asks; the event may have been accepted before others that are known already."""
        number = len(self.asked)
        request_id = f"r{number:03d}"
        kind = "tool" if tool else "web"
        self.asked[request_id] = kind
        self.events.append(
            request_created(
                request_id=request_id,
                integration_type=kind,
                integration_key=TOOL if tool else "",
                content=f"a printer, says {request_id}",
                conversation_key=f"{kind}-{conversation}",
                accepted_at=f"2026-01-01T00:00:00.{100 + 10 * number - 15 * earlier:06d}Z",
            )
        )

    @precondition(lambda self: self.events)
    @rule(which=st.integers(0), at_once=st.sampled_from((1, 1, 1, 2, 3)))
    def deliver(self, which: int, at_once: int) -> None:
        """The broker delivers an event, once or several times at once."""
        self._deliver(self._event(which), at_once)

    @precondition(lambda self: self.events)
    @rule(at_once=st.sampled_from((1, 1, 2)))
    def deliver_the_newest(self, at_once: int) -> None:
        """As it mostly goes."""
        self._deliver(self.events[-1], at_once)

    @precondition(lambda self: self.events)
    @rule(which=st.integers(0), place=st.integers(0), at_once=st.sampled_from((1, 1, 2)))
    def deliver_and_crash(self, which: int, place: int, at_once: int) -> None:
        """The function dies between two statements, or after the last one."""
        event = self._event(which)
        points = CRASHES[WOKEN_BY[event.attribute("type")]]
        with self.world.crashing(WOKEN_BY[event.attribute("type")], points[place % len(points)]):
            self._deliver(event, at_once)

    @precondition(lambda self: self.events)
    @rule(
        which=st.integers(0),
        code=st.sampled_from(("503", "400", "")),
        resends=st.sampled_from(("0", "3")),
        place=st.none() | st.integers(0),
    )
    def give_up(self, which: int, code: str, resends: str, place: int | None) -> None:
        """The broker gives an event up; perhaps dead-letter dies of it and is given it again."""
        dead = self._event(which).but(knativeerrordest="http://x/", knativeerrorcode=code or None, resends=resends)
        if place is not None:
            points = CRASHES["dead-letter"]
            with self.world.crashing("dead-letter", points[place % len(points)]):
                self._post("dead-letter", dead)
        self._post("dead-letter", dead)

    @rule()
    def leases_end(self) -> None:
        """Time passes: workers that went away lose their lease, and senders theirs."""
        self.world.postgres.query(
            "UPDATE request_sessions SET lease_until = now() - interval '1 s' WHERE lease_until > now()"
        )
        self.world.postgres.query(
            "UPDATE request_logs SET delivery_until = now() - interval '1 s' WHERE delivery_until > now()"
        )

    @rule(conversation=st.integers(0, 1), tool=st.booleans(), swept=st.booleans())
    def session_expires(self, conversation: int, tool: bool, swept: bool) -> None:
        """Nobody said anything for hours; perhaps session-sweep came by."""
        key = f"{'tool' if tool else 'web'}-{conversation}"
        change = "status = 'expired'" if swept else "expires_at = now() - interval '1 s'"
        found = self.world.postgres.query(
            f"UPDATE request_sessions SET {change} WHERE conversation_key = %s AND status = 'active'"
            " RETURNING session_id::text",
            key,
        )
        for (session_id,) in found:
            self.tables.session_closed(session_id)

    @precondition(lambda self: self.asked)
    @rule(which=st.integers(0))
    def another_worker_takes_the_turn(self, which: int) -> None:
        """It claims as agent-invoke does, and stalls."""
        request_id = sorted(self.asked)[which % len(self.asked)]
        owner = f"another:{len(self.stalled)}"
        [[claim]] = self.world.postgres.query("SELECT claim_turn(%s, %s, interval '300 s', 5)", request_id, owner)
        if claim["outcome"] == "claimed":
            self.stalled.append({"request_id": request_id, "owner": owner, "fence": claim["fence"]})

    @precondition(lambda self: self.stalled)
    @rule(which=st.integers(0), fails=st.booleans())
    def the_other_worker_wakes_up(self, which: int, fails: bool) -> None:
        """It tries to commit, or gives its lease back, however late that is."""
        turn = self.stalled.pop(which % len(self.stalled))
        if fails:
            self.world.postgres.query("SELECT release_turn(%s, %s, %s, 0)", *turn.values())
            return
        result = {"status": "completed", "content": "said by another", "agent_id": "routing-agent", "model_calls": 1,
                  "input_tokens": 1, "output_tokens": 1, "metadata": {}}  # fmt: skip
        [(fence,)] = self.world.postgres.query(
            "SELECT lease_fence FROM request_sessions JOIN request_logs USING (session_id) WHERE request_id = %s",
            turn["request_id"],
        )
        values = (*turn.values(), json.dumps(result))
        [(committed,)] = self.world.postgres.query("SELECT finish_turn(%s, %s, %s, %s::jsonb)", *values)
        assert committed["outcome"] != "committed" or turn["fence"] == fence, (
            "a worker that had lost its lease has committed"
        )

    @invariant()
    def tables_hold(self) -> None:
        """P2, P3, terminal states are final, an expired session is never reused."""
        if hasattr(self, "tables"):
            self.tables.check()

    def teardown(self) -> None:
        """Nothing is broken any more: every request ends, and every answer of a tool's request reaches its webhook."""
        if not hasattr(self, "tables"):
            return
        for _ in range(_ROUNDS):
            self.leases_end()
            for event in list(self.events):
                self._deliver(event)
            if not self._unfinished():
                break
        assert not self._unfinished()
        self.tables.check()
        self._check_what_was_sent()

    def _unfinished(self) -> set[str]:
        ended = self.world.postgres.query(
            "SELECT request_id FROM request_logs WHERE completed_at IS NOT NULL"
            " AND (delivered_at IS NOT NULL OR integration_type = 'web')"
        )
        return set(self.asked) - {row[0] for row in ended}

    def _check_what_was_sent(self) -> None:
        """P5: a repeat has the key and the text of what it repeats; P1: whoever is told answers was told."""
        sent: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        for event in self.world.webhook.events:
            data = event.data()["data"]
            sent[data["request_id"]].add((event.headers["webhook-id"], json.dumps([data["content"], data["error"]])))
        assert {request_id for request_id, kind in self.asked.items() if kind == "tool"} == set(sent)
        assert all(len(one) == 1 for one in sent.values())

    def _event(self, which: int) -> Event:
        return self.events[which % len(self.events)]

    def _deliver(self, event: Event, at_once: int = 1) -> None:
        function = WOKEN_BY[event.attribute("type")]
        for answer in self.world.deliver(function, event, at_once):
            self._take(function, answer)

    def _post(self, function: str, event: Event) -> None:
        for answer in self.world.deliver(function, event):
            self._take(function, answer)

    def _take(self, function: str, answer: Answer) -> None:
        """Do with an answer what a broker does, and see that a reply is the same whenever it is repeated."""
        assert answer.status in (200, 204, *_MAY_PASS), (function, answer)
        if answer.status == 200:
            reply = Event.of(answer)
            self._learn(reply)
            first = self.replies.setdefault((function, reply.attribute("id")), reply)
            assert reply == first, f"{function} replied differently: {first.body!r} and then {reply.body!r}"
        arrived = self.world.broker.events[self.published :]
        self.published += len(arrived)
        for event in arrived:
            of_event = {
                name: value for name, value in event.headers.items() if name.startswith("ce-") or name == "content-type"
            }
            self._learn(Event(of_event, event.body).but(resends=None))

    def _learn(self, event: Event) -> None:
        if event.attribute("type") == _READY:
            assert event.data()["status"] in FINISHED
            same = {
                one.body for one in self.events if one.attribute("type") == _READY and self._about(one) == self._about(event)
            }
            assert same <= {event.body}, f"two answers to one request: {same} and {event.body!r}"
        if event not in self.events:
            self.events.append(event)

    @staticmethod
    def _about(event: Event) -> str:
        return event.attribute("requestid")
