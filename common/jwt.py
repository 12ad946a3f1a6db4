"""Bearer tokens (JWT), verified by PyJWT against a JWKS: people under AUTH_MODE=jwt, and brokers (common.events_auth)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from ssl import SSLContext
from typing import Any

import jwt
from flask import Request
from jwt import PyJWKClient, PyJWKClientConnectionError

from common.auth import Caller
from common.errors import Unauthenticated, Unavailable

# Asymmetric only: with a symmetric algorithm allowed, a public key could be used to sign (RFC 8725, section 3.1).
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_LEEWAY_SECONDS = 30
_MAX_TOKEN_CHARS = 16 * 1024  # more is no token of an issuer's, and JSON that deep would exhaust the parser's stack
_RETRY_SECONDS = 2.0


def bearer(request: Request) -> str:
    """The token in `Authorization: Bearer`.

    Raises Unauthenticated when there is none.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("A bearer token is needed.")
    return token.strip()


class _Keys(PyJWKClient):
    """An issuer's keys, asked anew when they are `lifespan` seconds old: a key that was withdrawn is refused from then on.

    While the issuer does not answer it is asked every 2 s, not by every request: each would wait for the one before it.
    """

    def __init__(self, url: str, lifespan: float, tls: SSLContext | None, headers: Callable[[], Mapping[str, str]]) -> None:
        # cache_keys stays off: PyJWT keeps what it caches so for ever, also after the issuer withdrew it.
        super().__init__(url, lifespan=lifespan, timeout=3, ssl_context=tls)
        self._fresh_headers = headers
        self._next_try = 0.0

    def fetch_data(self) -> Any:
        if time.monotonic() < self._next_try:
            raise PyJWKClientConnectionError("The issuer did not answer a moment ago.")
        try:
            self.headers = dict(self._fresh_headers())
            return super().fetch_data()
        except (jwt.PyJWTError, OSError, ValueError) as error:  # no answer, or none with keys in it
            self._next_try = time.monotonic() + _RETRY_SECONDS
            raise PyJWKClientConnectionError("The issuer's keys cannot be fetched.") from error


class TokenVerifier:
    """Verifies a token's signature, issuer, audience and times, and that it has exp, iss, aud and sub."""

    def __init__(
        self,
        *,
        jwks_url: str,
        issuer: str,
        audience: str,
        lifespan: float = 300.0,
        tls: SSLContext | None = None,
        headers: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = _Keys(jwks_url, lifespan, tls, headers)

    def subject(self, token: str) -> str:
        """Who the token is about.

        Raises Unauthenticated for a wrong token, Unavailable when the issuer's keys cannot be fetched.
        """
        if len(token) > _MAX_TOKEN_CHARS:
            raise Unauthenticated("The token is not valid.")
        try:
            key = self._keys.get_signing_key_from_jwt(token)
            claims = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                issuer=self._issuer,
                audience=self._audience,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except PyJWKClientConnectionError as error:
            raise Unavailable("Tokens cannot be verified now.") from error
        except (jwt.PyJWTError, ValueError, RecursionError):
            # Why a token is refused is the issuer's business; a forger learns nothing.
            raise Unauthenticated("The token is not valid.") from None
        subject: str = claims["sub"]
        if not subject:
            raise Unauthenticated("The token names no subject.")
        return subject


class JwtAuthenticator:
    """Verifies `Authorization: Bearer`: signature, issuer, audience, expiry. The subject is the user."""

    def __init__(self, *, jwks_url: str, issuer: str, audience: str) -> None:
        self._tokens = TokenVerifier(jwks_url=jwks_url, issuer=issuer, audience=audience)

    def identify(self, request: Request) -> Caller:
        """The caller named by the token.

        Raises Unauthenticated for a missing or wrong token, Unavailable when the issuer's keys cannot be fetched.
        """
        return Caller(self._tokens.subject(bearer(request)))
