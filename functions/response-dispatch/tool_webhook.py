"""Answers to tools: one POST to the webhook of the tool's configuration, signed by Standard Webhooks."""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from datetime import UTC, datetime

from channel import Answer, Gone, Refused, retry_after
from safe_http import SafeHttp
from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook

from common import settings, tracing
from common.errors import SettingError, Unavailable
from common.events import RESPONSE_READY

_RETRIED = {408, 409, 425, 429}


class Webhooks:
    """Signs with the secrets that the tool's configuration names: WEBHOOK_SECRETS is `{"<secret_ref>": ["whsec_…", …]}`.

    While a secret is rotated both sign (Standard Webhooks: signatures separated by spaces), so that the receiver may change
    its own at any time. A single secret may stand without the list.

    WEBHOOK_URLS_ALLOWED: URL prefixes, separated by commas, that may be plain http or lead to private addresses.
    """

    name = "webhook"
    begin = "begin_delivery"

    def __init__(self) -> None:
        raw = settings.mounted("WEBHOOK_SECRETS")
        try:
            secrets: Mapping[str, str | list[str]] = json.loads(raw) if raw else {}
            self._signers = {name: _signers(several) for name, several in secrets.items()}
        except (ValueError, AttributeError, TypeError, RuntimeError, binascii.Error, EmptyWebhookSecretError):
            raise SettingError('WEBHOOK_SECRETS must be JSON: {"<secret_ref>": ["whsec_<base64>", …]}') from None
        allowed = settings.optional("WEBHOOK_URLS_ALLOWED") or ""
        self._http = SafeHttp([one.strip() for one in allowed.split(",") if one.strip()])

    def send(self, answer: Answer) -> str | None:
        """POST the answer. `webhook-id` is the same however often it is sent: the receiver's key against repeats.

        A tool without a webhook reads its answer from request-status; nothing is sent.
        """
        url = answer.delivery.get("webhook_url")
        if not url:
            return None
        reference = answer.delivery.get("secret_ref") or answer.integration_key or answer.integration_type
        signers = self._signers.get(reference)
        if not signers:
            raise Unavailable("There is no secret to sign this webhook with.")
        message_id = f"{answer.request_id}.{'response' if answer.error is None else 'failed'}"
        now = datetime.now(UTC)
        body = json.dumps(self.payload(answer), ensure_ascii=False)
        headers = {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(one.sign(message_id, now, body) for one in signers),
        }
        with tracing.posting(url) as span:
            response = self._http.post(url, body.encode(), headers)
            span.note(status=response.status)
        if response.status in _RETRIED or response.status >= 500:
            raise Unavailable(
                f"The webhook answered {response.status}.", retry_after=retry_after(response.headers.get("Retry-After"))
            )
        if response.status == 410:
            raise Gone("The webhook answered 410.")
        if not 200 <= response.status < 300:
            raise Refused(f"The webhook answered {response.status}.")
        return message_id

    def payload(self, answer: Answer) -> dict[str, object]:
        """The body, by Standard Webhooks: a type, a time, the data. The tool's own context comes back with the answer."""
        return {
            "type": RESPONSE_READY,
            "timestamp": answer.completed_at,
            "data": {
                "request_id": answer.request_id,
                "session_id": answer.session_id,
                "user_id": answer.user_id,
                "status": answer.status,
                "agent_id": answer.agent_id,
                "content": answer.content,
                "error": answer.error,
                "tool_context": answer.context.get("tool_context") or {},
            },
        }


def _signers(secrets: str | list[str]) -> list[Webhook]:
    return [Webhook(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
