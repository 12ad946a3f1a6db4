"""Every oracle is silent on a sound run and turns red on a planted bug."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos import oracles
from tests.chaos.records import Accepted, Call, Change, Disturbance, Records, Result, Row, Sent, Violation


def sound() -> Records:
    """Two turns of one Slack session, one after the other, and a turn of a web session."""
    answers = {name: f"You wrote: “[{name}] a printer”." for name in ("a", "b", "c")}
    times = {"a": (10.0, 11.0), "b": (11.1, 12.0), "c": (10.2, 10.8)}
    return Records(
        accepted=(
            Accepted("a", "slack", "conversation 1", "[a]"),
            Accepted("b", "slack", "conversation 1", "[b]"),
            Accepted("c", "web", "conversation 2", "[c]"),
        ),
        results={name: Result(200, "completed", text, None) for name, text in answers.items()},
        rows={
            name: Row(name, "s2" if name == "c" else "s1", "completed", accepted, 1, 1, answers[name], None, None, 1)
            for name, accepted in (("a", 1.0), ("b", 2.0), ("c", 1.5))
        },
        changes=tuple(
            change
            for name, (start, end) in times.items()
            for change in (
                Change(start - 5, name, None, "queued", is_start=False, changes_answer=False),
                Change(start, name, "queued", "processing", is_start=True, changes_answer=False),
                Change(end, name, "processing", "completed", is_start=False, changes_answer=True),
            )
        ),
        calls=tuple(Call(f"[{name}]", start + 0.1, end - 0.1) for name, (start, end) in times.items()),
        sent=tuple(Sent("slack", name, f"{name}/0", answers[name]) for name in ("a", "b")),
        ids_of_key={"key-a": frozenset({"a"})},
    )


def red(records: Records, *names: str) -> list[Violation]:
    """Those oracles find something, and the others find nothing."""
    found = {name: oracle(records) for name, oracle in oracles.ZEROS.items()}
    assert {name for name, violations in found.items() if violations} == set(names), found
    return [violation for violations in found.values() for violation in violations]


def without(records: Records, request_id: str) -> Records:
    """As if the request had vanished after its 202."""
    return replace(
        records,
        rows={name: row for name, row in records.rows.items() if name != request_id},
        results={**records.results, request_id: Result(404)},
        changes=tuple(one for one in records.changes if one.request_id != request_id),
        calls=tuple(one for one in records.calls if one.mark != f"[{request_id}]"),
        sent=tuple(one for one in records.sent if one.request_id != request_id),
    )


def test_a_sound_run_breaks_nothing() -> None:
    red(sound())
    assert oracles.extra_calls(sound()) == {}
    assert not oracles.repeated_deliveries(sound())


def test_a_request_that_vanished_is_lost() -> None:
    assert [one.about for one in red(without(sound(), "c"), "lost")] == ["c"]


@pytest.mark.parametrize("status", ["queued", "processing"])
def test_a_request_that_never_ends_is_lost(status: str) -> None:
    records = sound()
    row = replace(records.rows["c"], status=status, content=None, model_calls=1)
    stuck = replace(
        records,
        results={**records.results, "c": Result(200, status)},
        rows={**records.rows, "c": row},
        changes=records.changes[:-1],
    )
    red(stuck, "lost")


def test_a_failure_without_a_sentence_is_lost() -> None:
    records = sound()
    row = replace(records.rows["c"], status="failed", content=None)
    red(replace(records, results={**records.results, "c": Result(200, "failed")}, rows={**records.rows, "c": row}), "lost")


def test_an_answer_that_its_channel_was_never_told_is_lost() -> None:
    red(replace(sound(), sent=sound().sent[1:]), "lost")


def test_the_answer_of_another_request_is_seen() -> None:
    records = sound()
    swapped = "You wrote: “[a] a printer”."
    row = replace(records.rows["c"], content=swapped)
    changed = replace(
        records, rows={**records.rows, "c": row}, results={**records.results, "c": Result(200, "completed", swapped, None)}
    )
    red(changed, "answers of other requests")


def test_an_api_that_does_not_show_what_was_committed_is_seen() -> None:
    records = sound()
    other = Result(200, "completed", "You wrote: “[c] a printer”, I think.", None)
    red(replace(records, results={**records.results, "c": other}), "answers of other requests")


def test_a_second_commit_is_seen() -> None:
    again = Change(12.5, "b", "completed", "completed", is_start=False, changes_answer=True)
    red(replace(sound(), changes=(*sound().changes, again)), "double commits")


def test_a_finished_request_that_is_taken_up_again_is_seen() -> None:
    again = (
        Change(12.5, "b", "completed", "processing", is_start=True, changes_answer=False),
        Change(12.6, "b", "processing", "completed", is_start=False, changes_answer=True),
    )
    red(replace(sound(), changes=(*sound().changes, *again)), "double commits")


def test_an_answer_that_was_read_and_is_another_one_now_is_seen() -> None:
    early = sound().results["c"]
    red(replace(sound(), read_early=(("c", early),)))
    red(replace(sound(), read_early=(("c", replace(early, content="You wrote: “[c]”.")),)), "double commits")


def test_two_different_answers_under_one_key_are_seen() -> None:
    other = Sent("slack", "a", "a/0", "You wrote: “[a] a printer”. But differently.")
    red(replace(sound(), sent=(*sound().sent, other)), "double commits")


def test_a_key_that_made_two_requests_is_seen() -> None:
    red(replace(sound(), ids_of_key={"key-a": frozenset({"a", "a2"})}), "one key, several requests")


def test_a_second_session_of_a_conversation_is_seen() -> None:
    records = sound()
    moved = replace(records, rows={**records.rows, "b": replace(records.rows["b"], session_id="s9")})
    red(moved, "one conversation, several sessions")


def test_a_turn_that_overtakes_is_an_order_violation() -> None:
    records = sound()
    late = replace(records, rows={**records.rows, "a": replace(records.rows["a"], accepted_at=3.0)})
    red(late, "order violations")


def test_a_turn_that_begins_while_another_runs_overlaps() -> None:
    records = sound()
    changes = tuple(replace(one, at=10.5) if (one.request_id, one.at) == ("b", 11.1) else one for one in records.changes)
    calls = tuple(replace(one, started=11.2) if one.mark == "[b]" else one for one in records.calls)
    red(replace(records, changes=changes, calls=calls), "overlapping turns")


def test_a_turn_whose_model_is_asked_before_the_one_ahead_ended_overlaps() -> None:
    records = sound()
    calls = tuple(replace(one, started=10.9) if one.mark == "[b]" else one for one in records.calls)
    red(replace(records, calls=calls), "overlapping turns")


def test_an_extra_call_that_nothing_explains_is_seen() -> None:
    records = replace(sound(), calls=(*sound().calls, Call("[c]", 10.4, 10.5)))
    red(records, "unexplained extra model calls")
    assert oracles.extra_calls(records) == {"c": 1}
    assert oracles.uncounted_calls(records) == 1


@pytest.mark.parametrize(
    ("cause", "explains"),
    [
        (Disturbance("kill", "agent-invoke", 10.35, 10.35), True),
        (Disturbance("fault", "agent.answered", 10.35, 10.35), True),
        (Disturbance("fault", "publish.after", 10.35, 10.35), False),
        (Disturbance("kill", "ingest-web", 10.35, 10.35), False),
        (Disturbance("kill", "agent-invoke", 11.35, 11.35), False),
    ],
)
def test_an_extra_call_is_allowed_only_where_a_crash_can_cost_one(cause: Disturbance, explains: bool) -> None:
    records = replace(sound(), calls=(*sound().calls, Call("[c]", 10.4, 10.5)), disturbances=(cause,))
    red(records, *([] if explains else ["unexplained extra model calls"]))


def test_one_crash_does_not_explain_many_calls() -> None:
    more = tuple(Call("[c]", 10.4 + n / 100, 10.5) for n in range(3))
    cause = Disturbance("kill", "agent-invoke", 10.35, 10.35)
    red(replace(sound(), calls=(*sound().calls, *more), disturbances=(cause,)), "unexplained extra model calls")


def test_a_repeat_under_the_same_key_is_counted_and_allowed() -> None:
    records = replace(sound(), sent=(*sound().sent, sound().sent[0]))
    red(records)
    assert oracles.repeated_deliveries(records) == {"slack": 1}


def test_a_repeat_under_a_new_key_is_seen() -> None:
    red(replace(sound(), sent=(*sound().sent, replace(sound().sent[0], key="a/again"))), "deliveries without their key")


def test_a_sign_that_nothing_took_away_is_seen() -> None:
    red(replace(sound(), sent=(*sound().sent, Sent("slack", "a", "a/-1", "Thinking…"))), "signs left behind")


def test_a_delivery_without_a_key_is_seen() -> None:
    red(replace(sound(), sent=(*sound().sent, replace(sound().sent[0], key=None))), "deliveries without their key")
