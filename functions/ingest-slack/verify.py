"""Slack's request signature (docs: "Verifying requests from Slack"): v0, HMAC-SHA256 over the raw body, 5 minutes."""

from flask import Request
from slack_sdk.signature import SignatureVerifier

from common import settings
from common.errors import Unauthenticated


class SlackSignature:
    """Checks requests against SLACK_SIGNING_SECRET; without the secret every request is refused."""

    def __init__(self) -> None:
        secret = settings.mounted("SLACK_SIGNING_SECRET")
        self._verifier = SignatureVerifier(secret) if secret else None

    def verify(self, request: Request) -> None:
        """Raises Unauthenticated unless Slack signed this body within the last 5 minutes."""
        timestamp = request.headers.get("X-Slack-Request-Timestamp", "")
        signature = request.headers.get("X-Slack-Signature", "")
        # The SDK reads the timestamp as a number and the body as UTF-8 without looking first.
        if self._verifier is None or not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16):
            raise Unauthenticated("The request is not signed by Slack.")
        try:
            signed = signature.isascii() and self._verifier.is_valid(request.get_data(), timestamp, signature)
        except UnicodeDecodeError:
            signed = False
        if not signed:
            raise Unauthenticated("The request is not signed by Slack.")
