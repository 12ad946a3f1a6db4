"""What the functions are told where the environment says nothing: settings for one machine, and for nowhere else."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from infra.local.keep import kept_secret

TOOL = "snow-integration"
TOOL_KEY = "local-tool-key"
SIGNING_SECRET = "local-slack-secret"  # noqa: S105 - printed at every start; for this machine only
BOT_TOKEN = "xoxb-local"  # noqa: S105 - what the stand-in for Slack takes
DRAIN_SECONDS = "5"

# The platform's own variables; a function gets its own PORT, and always these addresses.
_NOT_FOR_FUNCTIONS = frozenset({"PORT", "HOST", "STATE_DIR", "K_SINK", "BROKER_URL", "THREADS"})


def local_settings(inherited: Mapping[str, str], state: Path, origin: str, *, stand_in: bool) -> dict[str, str]:
    """Give the variables that are not set in `inherited` and have a local default.

    `origin` is the front door's address; with `stand_in` Slack and the webhooks lead back to it. The webhooks' secret is
    random and kept in `state`.
    """
    key_hash = sha256(TOOL_KEY.encode()).hexdigest()
    defaults = {
        "AUTH_MODE": "none",
        "SLACK_SIGNING_SECRET": SIGNING_SECRET,
        "TOOL_KEYS": json.dumps({TOOL: [f"sha256:{key_hash}"]}),
        "DRAIN_SECONDS": DRAIN_SECONDS,
    }
    if stand_in:
        webhook_secret = kept_secret(state / "webhook-secret", _new_webhook_secret)
        defaults |= {
            "SLACK_BOT_TOKEN": BOT_TOKEN,
            "SLACK_API_URL": f"{origin}/_platform/slack/api/",
            "WEBHOOK_URLS_ALLOWED": f"{origin}/",
            "WEBHOOK_SECRETS": json.dumps({TOOL: webhook_secret}),
        }
    return {name: value for name, value in defaults.items() if not inherited.get(name, "").strip()}


def function_environment(inherited: Mapping[str, str], local: Mapping[str, str]) -> dict[str, str]:
    """Give what every function gets: the environment without the platform's own variables, and the `local` settings."""
    kept = {name: value for name, value in inherited.items() if name not in _NOT_FOR_FUNCTIONS}
    # Everything that they call here is on loopback: a proxy of this machine is never asked for it.
    around = ",".join(filter(None, (inherited.get("NO_PROXY") or inherited.get("no_proxy"), "127.0.0.1,localhost")))
    return kept | dict(local) | {"HOST": "127.0.0.1", "NO_PROXY": around, "no_proxy": around, "PYTHONUNBUFFERED": "1"}


def _new_webhook_secret() -> str:
    # Standard Webhooks: whsec_ and 24 to 64 random bytes in base64.
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
