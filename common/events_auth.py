"""Whether an event comes from our broker: event functions refuse what does not, where the operator says how to know it.

Two proofs, both in `Authorization: Bearer`; when both are configured either is enough.

- OIDC, which Knative Eventing sends by itself (feature flag `authentication-oidc`): a token of the Trigger's own service
  account for the subscriber's audience. EVENTS_OIDC_AUDIENCE, EVENTS_OIDC_ISSUER, EVENTS_OIDC_SUBJECTS, and
  EVENTS_OIDC_JWKS_URL (default: the cluster's own API server).
- EVENTS_TOKEN, a shared secret, for brokers that can add a header to a delivery (the local stand-in does).

Neither is set: every event is accepted, and a function in a cluster says so at its start. Then only the network keeps others
out (docs/security.md).
"""

from __future__ import annotations

import hmac
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from flask import Request

from common import settings
from common.errors import Forbidden, SettingError, Unauthenticated

if TYPE_CHECKING:
    from ssl import SSLContext

log = logging.getLogger(__name__)

_CLUSTER = "https://kubernetes.default.svc"
_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")  # what Kubernetes mounts into every pod
_LEAST_CHARS = 16


class EventSender(Protocol):
    """Verifies who delivers an event."""

    def verify(self, request: Request) -> None:
        """Raises Unauthenticated or Forbidden unless the delivery is our broker's, Unavailable when nobody can tell now."""


class _SharedToken:
    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def verify(self, request: Request) -> None:
        if not self.matches(request):
            raise Unauthenticated("The event does not come from the broker.")

    def matches(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token) and scheme.lower() == "bearer"


class _Oidc:
    """Sender identity by Knative Eventing (docs: "OIDC authentication")."""

    def __init__(self, jwks_url: str, issuer: str, audience: str, subjects: tuple[str, ...]) -> None:
        from common.jwt import TokenVerifier  # only this mode pays for the JWT library

        in_cluster = jwks_url.startswith((f"{_CLUSTER}/", f"{_CLUSTER}."))
        self._subjects = subjects
        self._tokens = TokenVerifier(
            jwks_url=jwks_url,
            issuer=issuer,
            audience=audience,
            tls=_cluster_tls() if in_cluster else None,
            headers=_pod_identity if in_cluster else dict,
        )

    def verify(self, request: Request) -> None:
        from common.jwt import bearer

        subject = self._tokens.subject(bearer(request))
        # The audience alone proves little: any pod may ask its cluster for a token with an audience of its choice.
        if not any(_covers(one, subject) for one in self._subjects):
            raise Forbidden("The event does not come from the broker.")


class _Either:
    def __init__(self, token: _SharedToken, oidc: _Oidc) -> None:
        self._token = token
        self._oidc = oidc

    def verify(self, request: Request) -> None:
        if not self._token.matches(request):
            self._oidc.verify(request)


class _Anyone:
    def verify(self, request: Request) -> None:
        """Accept."""


def event_sender() -> EventSender:
    """The check that EVENTS_TOKEN and EVENTS_OIDC_* ask for.

    Raises SettingError when one of them is wrong, or when EVENTS_OIDC_* is set in part.
    """
    secret = settings.mounted("EVENTS_TOKEN")
    if secret is not None and (len(secret) < _LEAST_CHARS or not secret.isascii()):
        raise SettingError(f"EVENTS_TOKEN must have at least {_LEAST_CHARS} characters, all of them ASCII")
    token, oidc = _SharedToken(secret) if secret else None, _oidc()
    if token and oidc:
        return _Either(token, oidc)
    sender = token or oidc
    if sender:
        return sender
    if settings.in_cluster():
        log.warning("events are accepted from anyone who reaches this function: set EVENTS_OIDC_AUDIENCE or EVENTS_TOKEN")
    return _Anyone()


def _oidc() -> _Oidc | None:
    names = ("EVENTS_OIDC_AUDIENCE", "EVENTS_OIDC_ISSUER", "EVENTS_OIDC_SUBJECTS", "EVENTS_OIDC_JWKS_URL")
    if not any(settings.optional(name) for name in names):
        return None
    subjects = tuple(one.strip() for one in settings.text("EVENTS_OIDC_SUBJECTS").split(",") if one.strip())
    return _Oidc(
        jwks_url=settings.url("EVENTS_OIDC_JWKS_URL", f"{_CLUSTER}/openid/v1/jwks"),
        issuer=settings.text("EVENTS_OIDC_ISSUER"),
        audience=settings.text("EVENTS_OIDC_AUDIENCE"),
        subjects=subjects,
    )


def _covers(pattern: str, subject: str) -> bool:
    """Whether a subject is the pattern's, which may end in `*`."""
    return subject.startswith(pattern[:-1]) if pattern.endswith("*") else subject == pattern


def _cluster_tls() -> SSLContext:
    import ssl

    try:
        return ssl.create_default_context(cafile=_POD / "ca.crt")
    except OSError:
        raise SettingError("EVENTS_OIDC_JWKS_URL is the cluster's, and this pod has no service account to ask it") from None


def _pod_identity() -> dict[str, str]:
    # Read anew each time: the kubelet replaces the token every hour.
    return {"Authorization": f"Bearer {(_POD / 'token').read_text(encoding='ascii').strip()}"}
