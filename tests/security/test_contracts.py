"""The published contracts are those of the code: generated, valid, and what functions really take and answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from common import events
from infra.contracts import documents
from tests.parts.events import request_created
from tests.parts.functions import ROOT, Event, Function
from tests.parts.net import call
from tests.parts.postgres import Postgres
from tests.parts.recorder import Recorder
from tests.parts.samples import BODIES, GATEWAY_SECRET, TOOL_KEY, slack_headers

CONTRACTS = ROOT / "docs" / "contracts"


def document(name: str) -> Any:
    return json.loads((CONTRACTS / name).read_text(encoding="utf-8"))


def against(document: dict[str, Any], pointer: str, value: Any) -> list[str]:
    """What is wrong with a value, by a schema inside a document."""
    schema = {**document, "$ref": pointer} if pointer else document
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(value)]


def test_the_committed_documents_are_what_the_models_make() -> None:
    assert documents.problems() == []


def test_a_changed_model_is_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check is shown to turn red: on another text, a missing file and one of no model."""
    monkeypatch.setattr(documents, "FOLDER", tmp_path)
    documents.write()
    assert documents.problems() == []
    (tmp_path / "openapi.json").write_text("{}")
    (tmp_path / "schemas" / "request.created.1.json").unlink()
    (tmp_path / "schemas" / "request.gone.1.json").write_text("{}")
    found = documents.problems()
    for name in ("openapi.json", "request.created.1.json", "request.gone.1.json"):
        assert [line for line in found if name in line], name
    assert len(found) == 3


def test_openapi_is_valid() -> None:
    validate(document("openapi.json"), cls=OpenAPIV31SpecValidator)


def test_every_path_of_a_public_function_is_in_it_and_no_other() -> None:
    served = set()
    for path in ROOT.glob("functions/*/func.py"):
        text = path.read_text(encoding="utf-8")
        served |= {rule.replace("<", "{").replace(">", "}") for rule in re.findall(r'"(/api/v1/[^"]*)"', text)}
    assert set(document("openapi.json")["paths"]) == served


def test_asyncapi_refers_to_what_is_there() -> None:
    whole = document("asyncapi.json")

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"]
            for item in value.values():
                yield from references(item)
        elif isinstance(value, list):
            for item in value:
                yield from references(item)

    for reference in references(whole):
        if reference.startswith("#/"):
            found: Any = whole
            for part in reference[2:].split("/"):
                found = found[part]
        else:
            Draft202012Validator.check_schema(document(reference))
    received = {name for name in whole["operations"] if ".receive." in name}
    assert {"session-upsert.receive.request.created", "agent-invoke.receive.session.created"} <= received
    sent = {name.partition(".send.")[2] for name in whole["operations"] if ".send." in name}
    assert sent == {event_type.removeprefix(events.PREFIX) for event_type in events.MODELS}


@pytest.fixture
def functions(open_functions: dict[str, Function]) -> dict[str, Function]:
    return open_functions


@pytest.fixture
def recorder(open_broker: Recorder) -> Recorder:
    return open_broker


@pytest.mark.parametrize("integration", BODIES)
def test_real_requests_and_events_are_of_their_schemas(
    functions: dict[str, Function], recorder: Recorder, postgres: Postgres, integration: str
) -> None:
    openapi, asyncapi = document("openapi.json"), document("asyncapi.json")
    operation = openapi["paths"][f"/api/v1/requests/{integration}"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert list(Draft202012Validator({**openapi, **schema}).iter_errors(BODIES[integration])) == []
    recorder.clear()
    raw = json.dumps(BODIES[integration]).encode()
    headers = {"content-type": "application/json", "x-api-key": TOOL_KEY, **slack_headers(raw)}
    answer = call("POST", functions[f"ingest-{integration}"].url, body=raw, headers=headers)
    assert answer.status == 202
    assert against(openapi, "#/components/schemas/Accepted", answer.json()) == []
    [created] = recorder.events
    reply = Event.of(functions["session-upsert"].post_event(created))
    for event in (created, reply):
        name = event.attribute("type").removeprefix(events.PREFIX)
        message = asyncapi["components"]["messages"][name]
        assert list(Draft202012Validator(message["headers"]).iter_errors(event.headers)) == []
        assert against(document(f"schemas/{name}.1.json"), "", event.data()) == []
        assert event.attribute("dataschema") == document(f"schemas/{name}.1.json")["$id"]


@pytest.mark.parametrize("integration", BODIES)
def test_the_longest_values_that_the_contract_allows_go_all_the_way(
    functions: dict[str, Function], recorder: Recorder, postgres: Postgres, integration: str
) -> None:
    """Regression: a channel_id that the body's model took was too long for the event's, a 500."""
    openapi = document("openapi.json")
    schema = openapi["paths"][f"/api/v1/requests/{integration}"]["post"]["requestBody"]["content"]["application/json"]
    [model] = [name for name in json.dumps(schema).split('"') if name.endswith("Body")]
    fields = openapi["components"]["schemas"][model.rpartition("/")[2]]["properties"]
    recorder.clear()
    for name, field in fields.items():
        longest = next((one["maxLength"] for one in (field, *field.get("anyOf", ())) if "maxLength" in one), None)
        if longest is None or name == "tool_id":
            continue
        for length, status in ((longest, 202), (longest + 1, 422)):
            raw = json.dumps({**BODIES[integration], name: "x" * length}).encode()
            headers = {"content-type": "application/json", "x-api-key": TOOL_KEY, **slack_headers(raw)}
            answer = call("POST", functions[f"ingest-{integration}"].url, body=raw, headers=headers)
            assert answer.status == status, (name, length, answer)
    assert len(recorder.events) >= 4
    for created in recorder.events:
        assert functions["session-upsert"].post_event(created).status == 200


def finish(postgres: Postgres, change: str) -> None:
    postgres.query(f"UPDATE request_logs SET completed_at = now(), processing_time_ms = 1, agent_id = 'a', {change}")


@pytest.mark.parametrize(
    "state",
    [
        lambda _: None,
        lambda postgres: finish(postgres, "status = 'completed', response_content = 'x', response_metadata = '{\"a\": 1}'"),
        lambda postgres: finish(postgres, "status = 'failed', error_code = 'c', error_message = 'm'"),
    ],
    ids=["queued", "completed", "failed"],
)
def test_real_answers_have_what_their_schemas_say_and_nothing_more(
    functions: dict[str, Function], postgres: Postgres, state: Callable[[Postgres], None]
) -> None:
    openapi = document("openapi.json")
    created = request_created(request_id="r1")
    postgres.query(
        "INSERT INTO dead_letters (event_source, event_id, event_type, request_id, destination, event)"
        " VALUES ('/s', 'i', 't', 'r1', 'd', '{}')"
    )
    session_id = Event.of(functions["session-upsert"].post_event(created)).attribute("sessionid")
    state(postgres)
    status = functions["request-status"]
    shown = status.get("/api/v1/requests/r1").json()
    assert against(openapi, "#/components/schemas/RequestState", shown) == []
    session = status.get(f"/api/v1/sessions/{session_id}").json()
    assert against(openapi, "#/components/schemas/Session", session) == []
    trace = status.get("/api/v1/requests/r1/trace").json()
    assert against(openapi, "#/components/schemas/Trace", trace) == []
    missing = status.get("/api/v1/requests/none", x_gateway_secret=GATEWAY_SECRET)
    assert against(openapi, "#/components/schemas/Problem", missing.json()) == []
