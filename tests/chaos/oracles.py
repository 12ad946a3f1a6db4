"""What must be true of a run, each as a function that gives what is not. Pure: they see the records and nothing else."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

from tests.chaos.records import FINISHED, Call, Change, Disturbance, Records, Result, Row, Sent, Violation

_CLOCK = 0.02  # seconds that two readings of one machine's clocks may differ
# What can lose an answer between the model and its commit, and so make the model be asked again.
_COSTS_A_CALL = {"agent-invoke", "agent-invoke-2", "llama-stack", "demo-model", "postgresql"}
_COSTS_A_CALL_FAULTS = ("agent.answered", "step.finish_turn.", "step.claim_turn.", "step.release_turn.")
_CALLS_PER_TURN = 2  # a hand-over, and the specialist's answer


def lost(records: Records) -> list[Violation]:
    """P1: every accepted request ends answered, or failed with a sentence; and whoever is sent answers was sent it."""
    told = {sent.request_id for sent in records.sent}
    found = []
    for one in records.accepted:
        result = records.results.get(one.request_id, Result(404))
        if result.http_status != 200 or result.status not in FINISHED:
            found.append(Violation(one.request_id, f"is not finished: HTTP {result.http_status}, {result.status}"))
        elif not (result.content if result.status == "completed" else result.error_message):
            found.append(Violation(one.request_id, f"is {result.status} and says nothing"))
        elif one.integration in ("slack", "tool") and one.request_id not in told:
            found.append(Violation(one.request_id, f"is {result.status}, and its {one.integration} was never told"))
    return found


def answers_of_others(records: Records) -> list[Violation]:
    """P2, P6: an answer is to the question that was asked, wherever it is seen."""
    found = []
    for one in records.accepted:
        result, row = records.results.get(one.request_id), records.rows.get(one.request_id)
        seen = [] if result is None else [("the API", result.content)]
        seen += [] if row is None else [("the table", row.content)]
        found += [
            Violation(one.request_id, f"{where} shows an answer to something else")
            for where, content in seen
            if content is not None and one.mark not in content
        ]
        if result is not None and row is not None and result.http_status == 200:
            read, kept = (result.status, result.content, result.error_message), (row.status, row.content, row.error_message)
            found += [Violation(one.request_id, "the API and the table do not agree")] if read != kept else []
    return found


def double_commits(records: Records) -> list[Violation]:
    """P2: a request ends once, stays as it ended, and everybody is told the same."""
    found = []
    ends: Counter[str] = Counter()
    for change in records.changes:
        if change.before in FINISHED and (change.after != change.before or change.changes_answer or change.is_start):
            found.append(Violation(change.request_id, f"was {change.before} and changed afterwards"))
        elif change.after in FINISHED:
            ends[change.request_id] += 1
    found += [Violation(request_id, f"ended {count} times") for request_id, count in ends.items() if count > 1]
    found += [
        Violation(request_id, "was read as something else before")
        for request_id, early in records.read_early
        if early != records.results.get(request_id)
    ]
    for request_id, sent in _by_request(records.sent).items():
        texts = {(one.channel, one.key, one.content) for one in sent}
        keys = {(one.channel, one.key) for one in sent}
        if len(texts) > len(keys):
            found.append(Violation(request_id, "was sent two different answers"))
    return found


def several_ids(records: Records) -> list[Violation]:
    """P2: one Idempotency-Key is one request."""
    return [
        Violation(key, f"was answered with {len(ids)} request ids")
        for key, ids in records.ids_of_key.items()
        if len(ids) > 1
    ]


def several_sessions(records: Records) -> list[Violation]:
    """P2: one conversation is one session (none expires during a run)."""
    sessions: defaultdict[str, set[str]] = defaultdict(set)
    for one in records.accepted:
        row = records.rows.get(one.request_id)
        if row is not None and row.session_id is not None:
            sessions[one.conversation].add(row.session_id)
    return [Violation(name, f"has {len(ids)} sessions") for name, ids in sessions.items() if len(ids) > 1]


def order_violations(records: Records) -> list[Violation]:
    """P3: the turns of a session start in the order of (accepted_at, request_id)."""
    starts = _first_starts(records.changes)
    found = []
    for turns in _sessions(records.rows):
        started = [row.request_id for row in turns if row.request_id in starts]
        found += [
            Violation(later, f"began before {earlier}, which was accepted earlier")
            for earlier, later in pairwise(started)
            if starts[later] < starts[earlier]
        ]
    return found


def overlapping_turns(records: Records) -> list[Violation]:
    """P3: no turn of a session begins, and the model is asked nothing for it, while another one is unfinished."""
    starts = _first_starts(records.changes)
    ends = {change.request_id: change.at for change in records.changes if change.after in FINISHED}
    mark_of = {one.request_id: one.mark for one in records.accepted}
    asked: dict[str, float] = {}
    for call in records.calls:
        asked[call.mark] = min(call.started, asked.get(call.mark, call.started))
    found = []
    for turns in _sessions(records.rows):
        began = sorted((starts[row.request_id], row.request_id) for row in turns if row.request_id in starts)
        for (_, earlier), (start, later) in pairwise(began):
            end = ends.get(earlier, float("inf"))
            if start < end:
                found.append(Violation(later, f"began while {earlier} was not finished"))
            elif asked.get(mark_of.get(later, ""), end) < end - _CLOCK:
                found.append(Violation(later, f"was asked of the model while {earlier} was not finished"))
    return found


def extra_calls(records: Records) -> dict[str, int]:
    """How many calls of the model each request cost beyond those that its committed answer took."""
    calls = Counter(call.mark for call in records.calls)
    extra = {}
    for one in records.accepted:
        row = records.rows.get(one.request_id)
        if row is not None and calls[one.mark] > row.calls_of_answer:
            extra[one.request_id] = calls[one.mark] - row.calls_of_answer
    return extra


def uncounted_calls(records: Records) -> int:
    """P4: how many calls reached the model that `model_calls` of their request does not count."""
    calls = Counter(call.mark for call in records.calls)
    known = [(one.mark, records.rows[one.request_id]) for one in records.accepted if one.request_id in records.rows]
    return sum(max(0, calls[mark] - row.model_calls) for mark, row in known)


def unexplained_calls(records: Records) -> list[Violation]:
    """P4: an extra call only where something struck between the first call for a request and its end, one turn for each."""
    mark_of = {one.request_id: one.mark for one in records.accepted}
    calls: defaultdict[str, list[Call]] = defaultdict(list)
    for call in records.calls:
        calls[call.mark].append(call)
    found = []
    for request_id, extra in extra_calls(records).items():
        of_it = sorted(calls[mark_of[request_id]], key=lambda call: call.started)
        # A turn whose worker stood still loses its lease a while after that.
        since, till = of_it[0].started - _CLOCK, of_it[-1].started
        causes = [
            one
            for one in records.disturbances
            if may_cost_a_call(one) and one.started <= till and one.ended + records.lease_seconds >= since
        ]
        if extra > len(causes) * _CALLS_PER_TURN:
            found.append(Violation(request_id, f"cost {extra} extra calls of the model, with {len(causes)} causes"))
    return found


def repeated_deliveries(records: Records) -> Counter[str]:
    """How many sends were repeats of one that had the same key, by channel (P5 allows them)."""
    counts = Counter((sent.channel, sent.request_id, sent.key) for sent in records.sent if sent.key is not None)
    repeats: Counter[str] = Counter()
    for (channel, _, _), count in counts.items():
        repeats[channel] += count - 1
    return +repeats


def keyless_deliveries(records: Records) -> list[Violation]:
    """P5: each send carries a key, and every repeat the same one: a new key would be a new message to the receiver."""
    found = [Violation(str(sent.request_id), f"{sent.channel}: sent without a key") for sent in records.sent if not sent.key]
    for request_id, sent in _by_request(records.sent).items():
        texts = Counter(content for _, content in {(one.key, one.content) for one in sent if one.key})
        found += [
            Violation(request_id, f"the same text was sent under {count} keys") for count in texts.values() if count > 1
        ]
    return found


def signs_left(records: Records) -> list[Violation]:
    """Slack's "thinking" sign (part -1 of an answer) is gone once the answer is there."""
    return [
        Violation(str(sent.request_id), "still shows the sign that it is being worked on")
        for sent in records.sent
        if sent.channel == "slack" and sent.key == f"{sent.request_id}/-1"
    ]


def attempts_beyond_the_first(records: Records) -> int:
    """How often a turn was claimed again."""
    return sum(row.attempts - 1 for row in records.rows.values() if row.attempts > 1)


ZEROS: dict[str, Callable[[Records], list[Violation]]] = {
    "lost": lost,
    "answers of other requests": answers_of_others,
    "double commits": double_commits,
    "one key, several requests": several_ids,
    "one conversation, several sessions": several_sessions,
    "order violations": order_violations,
    "overlapping turns": overlapping_turns,
    "unexplained extra model calls": unexplained_calls,
    "deliveries without their key": keyless_deliveries,
    "signs left behind": signs_left,
}
"""The figures that must be zero."""


def may_cost_a_call(one: Disturbance) -> bool:
    """Whether it can lose an answer of the model before it is committed."""
    if one.kind == "fault":
        return one.part.startswith(_COSTS_A_CALL_FAULTS)
    return one.part in _COSTS_A_CALL


def _first_starts(changes: Iterable[Change]) -> dict[str, float]:
    starts: dict[str, float] = {}
    for change in changes:
        if change.is_start:
            starts.setdefault(change.request_id, change.at)
    return starts


def _sessions(rows: Mapping[str, Row]) -> list[list[Row]]:
    """Each session's turns in the order that is promised."""
    sessions: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows.values():
        if row.session_id is not None:
            sessions[row.session_id].append(row)
    return [sorted(turns, key=lambda row: (row.accepted_at, row.request_id)) for turns in sessions.values()]


def _by_request(sent: Iterable[Sent]) -> dict[str, list[Sent]]:
    grouped: defaultdict[str, list[Sent]] = defaultdict(list)
    for one in sent:
        if one.request_id is not None:
            grouped[one.request_id].append(one)
    return grouped
