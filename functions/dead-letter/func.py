"""What a Trigger gave up on: keep it whole, send it again if its cause may pass, at last tell the person."""

from typing import Any

from letter import Letter
from parliament import Context

from common import events, metrics, settings
from common.broker import Broker
from common.database import Database
from common.errors import InProgress
from common.function import Function

MAX_RESENDS = settings.integer("DEAD_LETTER_RESENDS", 3, least=0, most=100)
CODE = "not_processed"
SENTENCE = "Your request could not be worked on, although it was tried several times. Please ask again later."

broker = Broker()
database = Database()
for event_type in (*events.MODELS, "other"):
    for action in ("resent", "given_up"):  # there from the start, so that the first one is seen to be one more
        metrics.DEAD_LETTERS.labels(event_type, action)
function = Function("dead-letter", "event", needs=(database, broker))


def main(context: Context) -> Any:
    """Record the event, then send it again or give it up; no reply (Kafka's broker would take one for a new event)."""
    letter = Letter.read(context.request)
    again = letter.may_pass and letter.resends < MAX_RESENDS
    # A sign that is missing is nothing that an operator is asked to look at.
    database.step("record_dead_letter", {**letter.row(), "given_up": not (again or letter.is_only_a_sign)})
    if letter.is_only_a_sign:
        metrics.DEAD_LETTERS.labels(events.label_of(letter.type), "given_up").inc()
    elif again:
        metrics.DEAD_LETTERS.labels(events.label_of(letter.type), "resent").inc()
        broker.publish(letter.again())
    else:
        metrics.DEAD_LETTERS.labels(events.label_of(letter.type), "given_up").inc()
        give_up(letter)
    return "", 204


def give_up(letter: Letter) -> None:
    """End the request that the event was about, and let its person be told.

    Raises InProgress when a worker has just taken it up after all.
    """
    if letter.type == events.RESPONSE_READY:
        # The answer is committed; only its way out failed. It can still be read, and the delivery be replayed.
        if letter.request_id:
            error = f"Given up after {letter.code or 'no answer'}."
            database.step("give_up_delivery", {"request_id": letter.request_id, "error": error})
        return
    if not letter.is_ours():
        return
    ended = database.step(
        "fail_request",
        {
            "request_id": letter.request_id,
            "request": letter.request.model_dump_json() if letter.request else None,
            "event_id": letter.id,
            "code": CODE,
            "message": SENTENCE,
        },
    )
    if ended["outcome"] == "busy":
        raise InProgress("A worker has taken the request up.")
    if ended["outcome"] == "finished":
        # Also when it was answered after all: perhaps it was the answer's event that got lost.
        broker.publish(events.response_ready(function.name, ended["answer"]))
