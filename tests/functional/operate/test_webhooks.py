"""`python -m infra.operate webhooks` on real PostgreSQL."""

from __future__ import annotations

from tests.functional.operate.support import Operating, of_tool
from tests.parts.functions import Event


def test_a_webhook_that_went_is_seen_switched_on_and_sent_what_it_missed(operating: Operating) -> None:
    operating.hook.status = 410
    upsert, agent, dispatch = (operating.functions[name] for name in ("session-upsert", "agent-invoke", "response-dispatch"))
    for number in range(3):
        ready = Event.of(upsert.post_event(of_tool(f"r{number}")))
        dispatch.post_event(Event.of(agent.post_event(ready)))
    assert len(operating.hook.events) == 1
    [row] = operating.json("webhooks", "list")
    assert (row["tool"], row["reason"], row["unsent"]) == ("snow", "The webhook answered 410.", 3)
    assert "The webhook answered 410." in operating.ok("webhooks", "list")

    operating.hook.status = 204
    operating.broker.clear()
    assert operating.ok("webhooks", "enable", "snow", "--resend") == "snow is switched on; 3 answers are sent again\n"
    for one in operating.broker.events:
        operating.deliver(one)
    sent = [one.headers["webhook-id"] for one in operating.hook.events[1:]]
    assert sent == ["r0.response", "r1.response", "r2.response"]
    assert operating.json("webhooks", "list")[0]["unsent"] == 0
    assert operating.ok("webhooks", "enable", "snow") == "snow was not switched off\n"


def test_a_webhook_is_switched_off_by_hand(operating: Operating) -> None:
    assert operating.ok("webhooks", "disable", "snow") == "snow is switched off\n"
    assert operating.json("webhooks", "list")[0]["reason"] == "Switched off by an operator."
    operating.deliver(of_tool("r1"))
    assert operating.hook.events == []
    assert operating.ok("webhooks", "enable", "snow") == "snow is switched on; 1 answers were not sent meanwhile\n"
