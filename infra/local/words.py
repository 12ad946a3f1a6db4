"""What the person is told when the platform is ready, and what it warns of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from infra.local.defaults import SIGNING_SECRET, TOOL, TOOL_KEY


def warnings(local: Mapping[str, str], *, is_open: bool) -> Iterator[str]:
    """Say which local defaults are in force; `local` are the variables that were not set and got one.

    `is_open` says that other machines reach the front door.
    """
    if is_open:
        yield "HOST lets other machines in: the platform and its stand-ins are made for this one alone."
    if "AUTH_MODE" in local:
        yield "AUTH_MODE is not set: none. Whoever reaches this address may act as any user. For this machine only."
    if "SLACK_SIGNING_SECRET" in local:
        yield f"SLACK_SIGNING_SECRET is not set: {SIGNING_SECRET}."
    if "TOOL_KEYS" in local:
        yield f"TOOL_KEYS is not set: the tool {TOOL} is known by X-API-Key: {TOOL_KEY}."


def ready(origin: str, state: Path, *, stand_in: bool, demo_model: bool) -> str:
    """Give the text that is shown once everything is ready."""
    stood_in = ["the Broker and its Triggers"]
    if stand_in:
        stood_in.append(f"Slack's API and the tools' webhooks (what they got: {origin}/_platform/deliveries)")
    if demo_model:
        stood_in.append("the language model (a script behind a real Llama Stack server)")
    return f"""
  Ready: {origin}        what runs: {origin}/_platform        logs: {state / "logs"}

  Stood in for: {"; ".join(stood_in)}.

  Open {origin} in a browser to chat, {origin}/_platform to see what happens. Or ask and fetch the answer:
    curl -i {origin}/api/v1/requests/web -H 'content-type: application/json' \\
      -d '{{"user_id": "webuser123", "content": "I want to refresh my laptop", "session_token": "token123"}}'
    curl '{origin}/api/v1/requests/<request_id>?wait=30'

  Ctrl-C stops everything.
"""
