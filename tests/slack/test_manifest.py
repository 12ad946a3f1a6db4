"""The app manifest asks for what the code uses: no more, no less."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.parts.functions import ROOT

# The bot scopes by the methods and events that need them (docs.slack.dev/reference/scopes).
NEEDED = {
    "chat.postMessage, chat.update, chat.delete": {"chat:write"},
    "conversations.open": {"im:write"},
    "conversations.replies, conversations.history": {"channels:history", "groups:history", "im:history", "mpim:history"},
    "app_mention": {"app_mentions:read"},
    "message.im": {"im:history"},
    "message.channels": {"channels:history"},
    "message.groups": {"groups:history"},
    "message.mpim": {"mpim:history"},
    "/agent": {"commands"},
}


@pytest.fixture(scope="module")
def manifest() -> Any:
    return yaml.safe_load((ROOT / "docs" / "slack-manifest.yaml").read_text(encoding="utf-8"))


def test_the_scopes_are_those_of_the_methods_and_events(manifest: Any) -> None:
    assert set(manifest["oauth_config"]["scopes"]["bot"]) == set().union(*NEEDED.values())
    assert set(manifest["settings"]["event_subscriptions"]["bot_events"]) == {
        name for name in NEEDED if name.startswith(("app_mention", "message."))
    }


def test_everything_comes_to_the_one_url_of_ingest_slack(manifest: Any) -> None:
    [path] = yaml.safe_load((ROOT / "infra/topology.yaml").read_text(encoding="utf-8"))["functions"]["ingest-slack"]["paths"]
    urls = {
        manifest["settings"]["event_subscriptions"]["request_url"],
        manifest["settings"]["interactivity"]["request_url"],
        *(command["url"] for command in manifest["features"]["slash_commands"]),
    }
    assert urls == {f"https://agent.example.com{path}"}


def test_slack_takes_the_names(manifest: Any) -> None:
    """Limits: docs.slack.dev/reference/app-manifest."""
    assert len(manifest["display_information"]["name"]) <= 35
    assert len(manifest["display_information"]["description"]) <= 140
    assert manifest["settings"]["socket_mode_enabled"] is False
    for command in manifest["features"]["slash_commands"]:
        assert command["command"].startswith("/")
        assert len(command["command"]) <= 32
