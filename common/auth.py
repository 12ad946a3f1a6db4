"""Who is asking: by a gateway's word, by a JWT, or (local only) by their own."""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass
from typing import Protocol

from flask import Request

from common import settings
from common.errors import Forbidden, SettingError, Unauthenticated

log = logging.getLogger(__name__)

MODES = ("gateway", "jwt", "none")


@dataclass(frozen=True)
class Caller:
    """A verified caller. `user_id` None: not verified at all (AUTH_MODE=none), anyone is who they say."""

    user_id: str | None

    def require(self, user_id: str) -> None:
        """Raises Forbidden when the caller is somebody else than `user_id`."""
        if self.user_id is not None and self.user_id != user_id:
            raise Forbidden("user_id is not the caller's.")


class Authenticator(Protocol):
    """Verifies callers of a function."""

    def identify(self, request: Request) -> Caller:
        """The request's caller.

        Raises Unauthenticated when that cannot be verified, Unavailable when it cannot be verified now.
        """


class _Gateway:
    """A gateway in front of us did the work and says who it is; a shared secret proves that it is the gateway."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def identify(self, request: Request) -> Caller:
        given = request.headers.get("X-Gateway-Secret", "").encode()
        if not hmac.compare_digest(given, self._secret):
            raise Unauthenticated("The request did not come through the gateway.")
        user_id = header_text(request, "X-User-Id")
        if not user_id:
            raise Unauthenticated("The gateway did not say who the caller is.")
        return Caller(user_id)


class _NoVerification:
    def identify(self, request: Request) -> Caller:
        return Caller(header_text(request, "X-User-Id") or None)


def header_text(request: Request, name: str) -> str:
    """A header's value: HTTP carries it as Latin-1, gateways write UTF-8 into it. Empty when absent or unreadable."""
    try:
        return request.headers.get(name, "").strip().encode("latin-1").decode("utf-8")
    except UnicodeError:
        return ""


def authenticator() -> Authenticator:
    """The authenticator of AUTH_MODE (default gateway).

    Raises SettingError when its settings are missing, or when AUTH_MODE=none in a cluster without
    ALLOW_UNAUTHENTICATED=true.
    """
    mode = settings.choice("AUTH_MODE", "gateway", MODES)
    if mode == "gateway":
        secret = settings.mounted("GATEWAY_SECRET")
        if not secret:
            raise SettingError("GATEWAY_SECRET must be set when AUTH_MODE is gateway")
        return _Gateway(secret)
    if mode == "jwt":
        from common.jwt import JwtAuthenticator  # only this mode pays for the JWT library

        return JwtAuthenticator(
            jwks_url=settings.url("JWT_JWKS_URL"),
            issuer=settings.text("JWT_ISSUER"),
            audience=settings.text("JWT_AUDIENCE"),
        )
    if settings.in_cluster() and not settings.flag("ALLOW_UNAUTHENTICATED"):
        raise SettingError("AUTH_MODE must not be none in a cluster (ALLOW_UNAUTHENTICATED=true overrides)")
    log.warning("AUTH_MODE=none: callers are not verified")
    return _NoVerification()
