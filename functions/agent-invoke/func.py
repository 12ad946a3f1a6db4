"""session.created, session.updated: take the session's turn, ask the agent, commit its answer, pass it on."""

from pathlib import Path
from typing import Any

from agents import Agents
from conversation import Message, answer
from leases import Leases
from llama import Llama
from measure import prepare
from parliament import Context
from streams import Streams
from turns import Outcome, Turn, Turns

from common import events, settings, tracing
from common.database import Database
from common.function import Function
from common.notifications import Notifications

AGENTS = Path(settings.text("AGENTS_DIR", str(Path(__file__).parent / "agents")))
DEFAULT_AGENT_ID = settings.text("DEFAULT_AGENT_ID", "routing-agent")
THREADS = settings.integer("THREADS", 16, least=1, most=1000)
MAX_HISTORY_TOKENS = settings.integer("HISTORY_TOKENS", 8000, least=100, most=1_000_000)

agents = Agents.load(AGENTS)
agents.get(DEFAULT_AGENT_ID)
prepare(agents)
llama = Llama(
    settings.url("LLAMA_STACK_URL", "http://llamastack:8321"),
    settings.mounted("LLAMA_STACK_API_KEY"),
    settings.number("AGENT_TIMEOUT", 120, least=0.1, most=280),
)
database = Database()
notifications = Notifications(database)
leases = Leases(database, seconds=settings.number("LEASE_SECONDS", 15, least=1, most=300))
turns = Turns(
    database,
    notifications,
    leases,
    history=settings.integer("HISTORY_TURNS", 20, least=0, most=500),
    waiters=max(1, THREADS // 2),
    concurrency=settings.integer("AGENT_CONCURRENCY", max(1, min(THREADS // 2, 16)), least=1, most=1000),
    wait_seconds=settings.number("TURN_WAIT_SECONDS", 20, least=0, most=250),
)
streams = Streams(database, enabled=settings.flag("STREAMING", default=True))
function = Function("agent-invoke", "event", needs=(database,), parts=(notifications, leases, streams, llama))


def main(context: Context) -> Any:
    """Reply agent.response-ready with the one committed answer, or with why there is none."""
    event = events.read(context.cloud_event, events.SESSION_CREATED, events.SESSION_UPDATED)
    request = events.data_of(event, events.SessionReady).request
    return events.response_ready(function.name, turns.run(request.request_id, ask))


def ask(turn: Turn) -> Outcome:
    """Ask the session's current agent, with the conversation so far."""
    history = [said for asked, answered in turn.history for said in (Message("user", asked), Message("assistant", answered))]
    with (
        streams.open(turn.request.request_id, turn.attempt, turn.request.integration_type) as stream,
        tracing.turn(turn.agent_id or DEFAULT_AGENT_ID, turn.session_id) as span,
    ):
        said = answer(
            agents,
            llama,
            agent_id=turn.agent_id or DEFAULT_AGENT_ID,
            default_agent_id=DEFAULT_AGENT_ID,
            history=history,
            content=turn.request.content,
            context={
                "user_id": turn.request.user_id,
                "integration": turn.request.integration_type,
                **turn.request.context,
            },
            max_history_tokens=MAX_HISTORY_TOKENS,
            listener=stream,
        )
        span.note(
            input_tokens=said.input_tokens,
            output_tokens=said.output_tokens,
            handoffs=said.handoffs,
            model_calls=said.model_calls,
        )
    return Outcome(
        content=said.content,
        agent_id=said.agent_id,
        model_calls=said.model_calls,
        input_tokens=said.input_tokens,
        output_tokens=said.output_tokens,
        metadata={
            "handoffs": list(said.handoffs),
            "usage": {"input_tokens": said.input_tokens, "output_tokens": said.output_tokens},
        },
    )
