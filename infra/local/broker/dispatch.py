"""The broker itself: an event comes in, goes to every Trigger that wants it, and its answers are acted on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from infra.local.broker.answers import Action, Answer, dead_letter_headers, judge
from infra.local.broker.changes import KEPT, Changes
from infra.local.broker.cloudevent import CloudEvent
from infra.local.broker.disorder import Disorder
from infra.local.broker.queues import Queue
from infra.local.broker.sender import Sender
from infra.local.broker.store import (
    DEAD_LETTERED,
    DELIVERED,
    IN_FLIGHT,
    RETRYING,
    Delivery,
    Store,
    StoredEvent,
    StoreError,
)
from infra.local.broker.triggers import Topology, Trigger

MAX_HOPS = 255  # of replies to replies (knativebrokerttl)
INGRESS = "ingress"
_NUMBER_OF_DEAD_LETTER = 1000  # the dead letter of an event's delivery n is its delivery n + 1000
_MAX_DEAD_LETTER_WAIT = 30.0  # seconds
_STORE_AGAIN_AFTER = 1.0  # seconds
_HOPS_USED_UP = 400  # what Knative's ingress answers to a reply whose knativebrokerttl is used up
_TRIGGER_GONE = 404  # what Knative's filter answers for a Trigger that is no longer there
_NAMES = {Action.FINISH: "delivered", Action.RETRY: "retried", Action.DEAD_LETTER: "dead_lettered"}

log = logging.getLogger("broker")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a delivery; `errors` are the extensions that its dead letter gets."""

    action: Action
    reply: CloudEvent | None = None
    errors: dict[str, str] | None = None


class Dispatcher:
    """Accepts events and delivers them until it is stopped. `url` is the broker's own address.

    `counts`, by function and by Trigger, and `sources`, the events by the source that they name and who sent them, are of
    this process. `changes` says which requests moved.
    """

    def __init__(
        self,
        topology: Topology,
        store: Store,
        sender: Sender,
        tasks: asyncio.TaskGroup,
        *,
        url: str,
        in_flight: int,
        disorder: Disorder | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.counts_by_function: dict[str, Counter[str]] = {}
        self.counts_by_trigger: dict[str, Counter[str]] = {}
        self.sources: Counter[tuple[str, str]] = Counter()
        self.changes = Changes(store.last_requests(KEPT))
        self.disorder = disorder
        self._topology = topology
        self._store = store
        self._sender = sender
        self._url = url
        self._open: dict[tuple[int, int], Delivery] = {}
        sink = topology.dead_letter
        self._triggers = {trigger.name: trigger for trigger in topology.triggers}
        self._queues = {name: Queue(trigger, in_flight, self._attempt, tasks) for name, trigger in self._triggers.items()}
        self._dead_letters = Queue(sink, in_flight, self._attempt, tasks)
        for trigger in (*topology.triggers, sink):
            self.counts_by_function.setdefault(trigger.function, Counter())
            self.counts_by_trigger.setdefault(trigger.name, Counter())

    async def accept(self, event: CloudEvent) -> bool:
        """Take an event from outside; it is stored, and its deliveries are, when this returns.

        Returns False, and stores nothing, when the event went round in replies too often. Raises StoreError.
        """
        hops = MAX_HOPS if event.hops is None else event.hops - 1
        if hops <= 0:
            return False
        stored, deliveries = self._new(event, hops, INGRESS)
        await self._store.write(stored, deliveries)
        self._admit(stored, deliveries)
        return True

    async def resume(self) -> None:
        """Go on with every delivery that was not finished when the last broker on this store ended."""
        for delivery in self._store.open_deliveries():
            self._open[delivery.seq, delivery.number] = delivery
            if delivery.errors is None and delivery.trigger not in self._triggers:
                stored = self._store.load(delivery.seq)
                log.warning("trigger is gone", extra={"fields": _fields(stored.event, delivery)})
                errors = dead_letter_headers(self._url, _TRIGGER_GONE, b"")
                await self._settle(stored, delivery, Outcome(Action.DEAD_LETTER, errors=errors))
            else:
                self._queue(delivery).put_later(delivery)

    async def stop(self, seconds: float) -> None:
        """Start no more deliveries and give those in flight up to `seconds` to finish."""
        tasks = set().union(*(queue.stop() for queue in (*self._queues.values(), self._dead_letters)))
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()

    def open_deliveries(self) -> Collection[Delivery]:
        """Return the deliveries that are not finished."""
        return self._open.values()

    def trace(self, request_id: str, most_bytes: int = 0) -> Iterable[tuple[StoredEvent, list[Delivery]]]:
        """Yield the events of a request, oldest first, with their deliveries as they stand now; data as Store.trace does."""
        for stored, deliveries in self._store.trace(request_id, most_bytes):
            yield stored, [self._open.get((each.seq, each.number), each) for each in deliveries]

    def _new(self, event: CloudEvent, hops: int, origin: str) -> tuple[StoredEvent, list[Delivery]]:
        now = time.time()
        stored = StoredEvent(self._store.next_seq(), event, hops, origin, now)
        wanted_by = [trigger for trigger in self._topology.triggers if trigger.wants(event)]
        deliveries = [
            Delivery(stored.seq, number, trigger.name, trigger.function, due_at=now, stored=stored)
            for number, trigger in enumerate(wanted_by)
        ]
        return stored, deliveries if self.disorder is None else self.disorder.of(deliveries)

    def _admit(self, stored: StoredEvent, deliveries: Collection[Delivery]) -> None:
        """Start an event that was just committed; never before, or a crash could take back what was seen."""
        self.counts["accepted" if stored.origin == INGRESS else "replies"] += 1
        self.sources[stored.event.headers["ce-source"], stored.origin] += 1
        self.changes.note(stored.event.get("requestid"))
        if log.isEnabledFor(logging.DEBUG):
            fields = _fields(stored.event) | {"from": stored.origin, "deliveries": len(deliveries)}
            log.debug("accepted", extra={"fields": fields})
        self._enqueue(deliveries)

    def _enqueue(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self._open[delivery.seq, delivery.number] = delivery
            queue = self._queue(delivery)
            if self.disorder is None:
                queue.put(delivery)
            else:
                queue.put_later(delivery)

    def _queue(self, delivery: Delivery) -> Queue:
        return self._dead_letters if delivery.errors is not None else self._queues[delivery.trigger]

    async def _attempt(self, trigger: Trigger, delivery: Delivery) -> None:
        stored = delivery.stored or self._store.load(delivery.seq)
        event = stored.event
        headers = {**event.headers, "prefer": "reply"}
        if delivery.errors is not None:
            headers.update(delivery.errors)
        if delivery.first_attempt_at is None:
            delivery.first_attempt_at = time.time()
        delivery.state = IN_FLIGHT
        started = time.monotonic()
        answer = await self._sender.send(trigger.url, headers, event.data, trigger.delivery.timeout)
        delivery.duration_ms = round((time.monotonic() - started) * 1000, 3)
        delivery.attempts += 1
        await self._settle(stored, delivery, self._decide(trigger, stored, delivery, answer))

    def _decide(self, trigger: Trigger, stored: StoredEvent, delivery: Delivery, answer: Answer) -> Outcome:
        """Apply the table of answers, and what it does not say: hops, retries that are left, dead letters."""
        verdict = judge(answer)
        delivery.status = None if answer.status is None else verdict.code
        is_dead_letter = delivery.errors is not None
        if verdict.action is Action.FINISH:
            if verdict.reply is None or stored.hops > 1:
                return Outcome(Action.FINISH, verdict.reply)
            log.warning("reply refused: no hops left", extra={"fields": _fields(stored.event, delivery)})
            if is_dead_letter:
                return Outcome(Action.FINISH)
            # As in Knative, it is the broker that refused, and the original event that is dead.
            return Outcome(Action.DEAD_LETTER, errors=dead_letter_headers(self._url, _HOPS_USED_UP, b""))
        may_pass = verdict.action is Action.RETRY and delivery.attempts <= trigger.delivery.retry
        if may_pass or is_dead_letter:  # nothing stands behind the sink: what it does not take waits for it
            return Outcome(Action.RETRY)
        errors = dead_letter_headers(str(trigger.url), verdict.code, answer.body)
        return Outcome(Action.DEAD_LETTER, errors=errors)

    async def _settle(self, stored: StoredEvent, delivery: Delivery, outcome: Outcome) -> None:
        """Write down what became of a try, in one transaction with what follows from it, then start that."""
        now = time.time()
        event: StoredEvent | None = None
        added: list[Delivery] = []
        if outcome.action is Action.RETRY:
            delivery.state, delivery.due_at = RETRYING, now + self._wait(delivery)
        elif outcome.action is Action.DEAD_LETTER:
            delivery.state, delivery.finished_at = DEAD_LETTERED, now
            sink, number = self._topology.dead_letter, delivery.number + _NUMBER_OF_DEAD_LETTER
            added = [Delivery(stored.seq, number, sink.name, sink.function, outcome.errors, due_at=now)]
        else:
            delivery.state, delivery.finished_at = DELIVERED, now
            if outcome.reply is not None:
                event, added = self._new(outcome.reply, stored.hops - 1, delivery.function)
        await self._write(event, added, delivery)
        self._count(outcome.action, delivery, stored.event)
        if outcome.action is Action.RETRY:
            self._queue(delivery).put_later(delivery)
            return
        del self._open[delivery.seq, delivery.number]
        if event is not None:
            self._admit(event, added)
        else:
            self._enqueue(added)

    def _wait(self, delivery: Delivery) -> float:
        """Return the seconds to the next try; a dead letter's are bounded, as its number of tries is not."""
        if delivery.errors is None:
            return self._triggers[delivery.trigger].delivery.backoff(delivery.attempts - 1)
        spec = self._topology.dead_letter.delivery
        wait = spec.backoff(delivery.attempts - 1)
        if delivery.attempts > spec.retry:
            wait = max(wait, 1.0)
        return min(wait, _MAX_DEAD_LETTER_WAIT)

    async def _write(self, event: StoredEvent | None, added: list[Delivery], changed: Delivery) -> None:
        """Write until it is written: the subscriber must not do its work twice because of a full disk."""
        while True:
            try:
                await self._store.write(event, added, changed)
            except StoreError as error:
                log.warning("outcome not stored yet", extra={"fields": {"error": str(error)}})
                await asyncio.sleep(_STORE_AGAIN_AFTER)
            else:
                return

    def _count(self, action: Action, delivery: Delivery, event: CloudEvent) -> None:
        name = _NAMES[action]
        self.counts[name] += 1
        self.counts_by_function.setdefault(delivery.function, Counter())[name] += 1
        self.counts_by_trigger.setdefault(delivery.trigger, Counter())[name] += 1
        self.changes.note(event.get("requestid"))
        level = logging.INFO if action is Action.FINISH else logging.WARNING
        log.log(level, name, extra={"fields": _fields(event, delivery)})


def _fields(event: CloudEvent, delivery: Delivery | None = None) -> dict[str, object]:
    """Return what a log line says of an event: never its data."""
    fields: dict[str, object] = {
        "request_id": event.get("requestid"),
        "event_id": event.get("id"),
        "type": event.get("type"),
    }
    if delivery is not None:
        fields.update(
            trigger=delivery.trigger,
            status=delivery.status,
            attempt=delivery.attempts,
            duration_ms=delivery.duration_ms,
        )
    return fields
