"""docs/contracts/asyncapi.json: AsyncAPI 3.0 of the events, from common.events and the topology table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import events
from infra.contracts.schemas import INTEGRATION, VERSION, file_name, functions

# Who makes an event is said in code only: by its reply, or by a publish.
_SENDERS: Mapping[str, tuple[str, ...]] = {
    events.SESSION_CREATED: ("session-upsert", "session-sweep"),
    events.SESSION_UPDATED: ("session-upsert", "session-sweep"),
    events.RESPONSE_READY: ("agent-invoke", "session-upsert", "dead-letter", "session-sweep"),
}
_SUMMARIES: Mapping[str, str] = {
    events.REQUEST_CREATED: "Somebody asked; verified and normalised, not yet recorded.",
    events.SESSION_CREATED: "A request was recorded and opened a session.",
    events.SESSION_UPDATED: "A request was recorded and belongs to a session that was there.",
    events.RESPONSE_READY: "A request has its one committed answer, or the reason why there is none.",
}
_TEXT = {"type": "string", "minLength": 1}
_ATTRIBUTES: Mapping[str, Mapping[str, Any]] = {
    "ce-specversion": {"const": "1.0"},
    "ce-id": {**_TEXT, "description": "Made from the request's id: the same step gives the same id."},
    "ce-source": {**_TEXT, "description": "/self-service-agent/<function>"},
    "ce-time": {"type": "string", "format": "date-time"},
    "ce-subject": {**_TEXT, "description": "The request's id."},
    "ce-requestid": _TEXT,
    "ce-sessionid": {**_TEXT, "description": "Once the session is known."},
    "ce-integration": INTEGRATION,
    "ce-partitionkey": {**_TEXT, "description": "The conversation: Kafka's record key."},
    "ce-traceparent": {**_TEXT, "description": "W3C Trace Context, the same on every hop."},
}
_OPTIONAL = {"ce-sessionid", "ce-traceparent"}


def document(root: Path) -> dict[str, Any]:
    """The whole document."""
    table = functions(root)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "self-service-agent events",
            "version": str(VERSION),
            "description": "CloudEvents 1.0 in binary mode over a Knative Broker. Unknown fields are ignored, missing ones"
            " refused.",
        },
        "defaultContentType": "application/json",
        "channels": {_short(event_type): _channel(event_type) for event_type in events.MODELS},
        "operations": {**_sends(table), **_receives(table)},
        "components": {"messages": {_short(event_type): _message(event_type) for event_type in events.MODELS}},
    }


def _short(event_type: str) -> str:
    return event_type.removeprefix(events.PREFIX)


def _channel(event_type: str) -> dict[str, Any]:
    name = _short(event_type)
    return {
        "address": event_type,
        "description": "The CloudEvent's type, by which Triggers filter.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
    }


def _message(event_type: str) -> dict[str, Any]:
    name = _short(event_type)
    own = {
        "ce-type": {"const": event_type},
        "ce-dataschema": {"const": f"urn:self-service-agent:schema:{name}:{VERSION}"},
    }
    return {
        "name": event_type,
        "summary": _SUMMARIES[event_type],
        "contentType": "application/json",
        "headers": {
            "type": "object",
            "properties": {**own, **_ATTRIBUTES},
            "required": [*own, *(one for one in _ATTRIBUTES if one not in _OPTIONAL)],
        },
        "payload": {
            "schemaFormat": "application/schema+json;version=draft-2020-12",
            "schema": {"$ref": f"schemas/{file_name(event_type)}"},
        },
    }


def _operation(action: str, function: str, event_type: str) -> tuple[str, dict[str, Any]]:
    name = _short(event_type)
    return f"{function}.{action}.{name}", {
        "action": action,
        "channel": {"$ref": f"#/channels/{name}"},
        "messages": [{"$ref": f"#/channels/{name}/messages/{name}"}],
        "tags": [{"name": function}],
    }


def _sends(table: Mapping[str, Any]) -> dict[str, Any]:
    ingest = tuple(name for name, row in table.items() if row["kind"] == "ingest")
    senders = {events.REQUEST_CREATED: ingest, **_SENDERS}
    return dict(_operation("send", one, event_type) for event_type, several in senders.items() for one in several)


def _receives(table: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return dict(
        _operation("receive", function, event_type)
        for function, row in table.items()
        for event_type in dict.fromkeys(_type_of(one) for one in row.get("wakes_on") or ())
        if event_type in events.MODELS
    )


def _type_of(wakes_on: str | Mapping[str, str]) -> str:
    return wakes_on if isinstance(wakes_on, str) else wakes_on["type"]
