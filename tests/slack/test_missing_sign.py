"""A sign that could not be posted is no failure: the request that it was for goes on."""

from __future__ import annotations

from collections.abc import Callable

from tests.parts.events import request_created
from tests.parts.functions import Event, Function
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder


def test_its_dead_letter_is_kept_and_neither_sent_again_nor_ends_the_request(
    postgres: Postgres, recorder: Recorder, serve: Callable[..., Function]
) -> None:
    settings = {**postgres.environment(), "BROKER_URL": recorder.url}
    recorder.clear()
    created = request_created(request_id="r1", integration_type="slack")
    ready = Event.of(serve("session-upsert", settings).post_event(created))
    dead_letter = serve("dead-letter", settings)
    for resends in ("0", "3"):
        dead = ready.but(
            knativeerrordest="http://response-dispatch.agents.svc.cluster.local/", knativeerrorcode="503", resends=resends
        )
        assert dead_letter.post_event(dead).status == 204

    assert recorder.events == []
    assert postgres.query("SELECT status FROM request_logs") == [("queued",)]
    assert postgres.query("SELECT event_id, seen FROM dead_letters") == [("r1.session", 2)]
