"""What a SinkBinding tells of the broker: where it is, whom to trust there, and a token that says who we are.

The latter two come with Knative Eventing's features transport-encryption and authentication-oidc.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import urlsplit

from common import settings
from common.errors import SettingError

_TOKEN = "/oidc/token"  # noqa: S105 - where a SinkBinding mounts it (eventing: sinkbinding_lifecycle.go)


class Sink:
    """The broker at K_SINK, else BROKER_URL. `tls` is None for http.

    Raises SettingError when there is no URL, K_CA_CERTS holds no certificate, or BROKER_TOKEN_FILE no token.
    """

    def __init__(self) -> None:
        self.url = urlsplit(settings.url("K_SINK") if settings.optional("K_SINK") else settings.url("BROKER_URL"))
        self.tls = _tls(settings.optional("K_CA_CERTS")) if self.url.scheme == "https" else None
        given = settings.optional("BROKER_TOKEN_FILE")
        self._token = Path(given or _TOKEN) if given or Path(_TOKEN).is_file() else None
        try:
            self.identity()
        except (OSError, ValueError):
            raise SettingError("BROKER_TOKEN_FILE names a file that cannot be read as a token") from None

    def identity(self) -> dict[str, str]:
        """The header that says who sends; none without a token. Read anew each time: a token lasts an hour, its file longer.

        Raises OSError when the file cannot be read.
        """
        return {"Authorization": f"Bearer {self._token.read_text(encoding='ascii').strip()}"} if self._token else {}


def _tls(certificates: str | None) -> ssl.SSLContext:
    """Who is trusted: the system's authorities, and those that Knative names (PEM)."""
    context = ssl.create_default_context()
    if certificates:
        try:
            context.load_verify_locations(cadata=certificates)
        except ssl.SSLError:
            raise SettingError("K_CA_CERTS must hold certificates in PEM") from None
    return context
