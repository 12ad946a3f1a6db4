"""docs/contracts/openapi.json: OpenAPI 3.1 of what people and tools call, as a gateway routes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infra.contracts import views
from infra.contracts.problems import PROBLEM, problem_responses, refuses
from infra.contracts.schemas import body_schema, ingest_functions

# What an integration is, and by what its callers prove who they are; a new one is taken for one of people.
_KNOWN = {
    "web": ("A person in a browser asks", "people"),
    "cli": ("A person in a terminal asks", "people"),
    "tool": ("A tool asks for somebody", "tool"),
    "slack": ("Slack tells what somebody wrote or pressed, or a relay asks as Slack would", "slack"),
}
_SECURITY: dict[str, list[dict[str, list[str]]]] = {
    "people": [{"bearer": []}, {"gateway": [], "gatewayUser": []}],
    "tool": [{"apiKey": []}],
    "slack": [{"slackSignature": [], "slackTimestamp": []}],
}
_TAKES = (400, 401, 403, 413, 415, 422, 429, 500, 503)
_READS = (400, 401, 403, 404, 422, 429, 500, 503)


def document(root: Path) -> dict[str, Any]:
    """The whole document."""
    bodies = {name.removeprefix("ingest-"): body_schema(root, name) for name in ingest_functions(root)}
    schemas: dict[str, Any] = {}
    for name, schema in bodies.values():
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "self-service-agent",
            "version": "1",
            "summary": "Ask an agent from Slack, a browser, a terminal or a tool, and read its answer.",
            "description": "Each path is served by one function. An ingest function takes its POST at / of its own URL too.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The gateway in front of the functions."}],
        "tags": [
            {"name": "ask", "description": "The ingest functions."},
            {"name": "read", "description": "request-status."},
        ],
        "paths": {
            **{f"/api/v1/requests/{one}": {"post": _ask(one, bodies[one][0])} for one in bodies},
            **_reading(),
        },
        "components": {
            "schemas": {**schemas, "Problem": PROBLEM, **views.SCHEMAS},
            "responses": problem_responses(),
            "parameters": views.PARAMETERS,
            "securitySchemes": _SCHEMES,
        },
    }


def _ask(integration: str, model: str) -> dict[str, Any]:
    summary, who = _KNOWN.get(integration, (f"Somebody in {integration} asks", "people"))
    reference = {"$ref": f"#/components/schemas/{model}"}
    content: dict[str, Any] = {"application/json": {"schema": reference}}
    responses: dict[str, Any] = {"202": views.ACCEPTED}
    if integration == "slack":
        content = {
            "application/json": {"schema": {"anyOf": [reference, *views.SLACK_JSON]}},
            "application/x-www-form-urlencoded": {"schema": views.SLACK_FORM},
        }
        responses["200"] = views.SLACK_HEARD
    return {
        "operationId": f"ask_{integration}",
        "tags": ["ask"],
        "summary": summary,
        "description": f"Served by ingest-{integration}. 202: the broker has stored the request; it is not lost any more.",
        "security": _SECURITY[who],
        "parameters": [{"$ref": "#/components/parameters/IdempotencyKey"}, {"$ref": "#/components/parameters/traceparent"}],
        "requestBody": {"required": True, "content": content},
        "responses": {**responses, **refuses(*_TAKES)},
    }


def _reading() -> dict[str, Any]:
    return {
        "/api/v1/requests/{request_id}": {
            "get": _read(
                "read_request",
                "A request's state, at once or when it is finished",
                ["requestId", "wait"],
                {"description": "As it is now.", "content": {"application/json": {"schema": _ref("RequestState")}}},
            )
        },
        "/api/v1/requests/{request_id}/events": {
            "get": _read(
                "stream_request",
                "A request's states, and its answer while it is written",
                ["requestId", "lastEventId"],
                views.STREAM,
            )
        },
        "/api/v1/requests/{request_id}/trace": {
            "get": _read(
                "trace_request",
                "A request's way through the functions, with times",
                ["requestId"],
                {"description": "As far as it has come.", "content": {"application/json": {"schema": _ref("Trace")}}},
            )
        },
        "/api/v1/sessions/{session_id}": {
            "get": _read(
                "read_session",
                "A session and what was said in it",
                ["sessionId"],
                {"description": "As it is now.", "content": {"application/json": {"schema": _ref("Session")}}},
            )
        },
    }


def _read(name: str, summary: str, parameters: list[str], answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": name,
        "tags": ["read"],
        "summary": summary,
        "description": "Served by request-status, to whom it belongs: the person, or the tool that asked.",
        "security": [*_SECURITY["people"], *_SECURITY["tool"]],
        "parameters": [{"$ref": f"#/components/parameters/{one}"} for one in parameters],
        "responses": {"200": answer, **refuses(*_READS)},
    }


def _ref(schema: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{schema}"}


def _header(name: str, description: str) -> dict[str, str]:
    return {"type": "apiKey", "in": "header", "name": name, "description": description}


_SCHEMES: dict[str, Any] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "AUTH_MODE=jwt: a token of JWT_ISSUER for JWT_AUDIENCE; its subject is the user.",
    },
    "gateway": _header("X-Gateway-Secret", "AUTH_MODE=gateway: proves that the gateway sent it. Never given to a person."),
    "gatewayUser": _header("X-User-Id", "AUTH_MODE=gateway: who the gateway says is asking."),
    "apiKey": _header("X-API-Key", "A tool's key, bound to its tool_id."),
    "slackSignature": _header("X-Slack-Signature", "v0= and the HMAC-SHA256 of v0:<timestamp>:<body>."),
    "slackTimestamp": _header("X-Slack-Request-Timestamp", "Unix seconds, at most 5 minutes away."),
}
