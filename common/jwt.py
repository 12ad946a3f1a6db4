"""AUTH_MODE=jwt: bearer tokens, verified by PyJWT against a JWKS."""

from __future__ import annotations

import jwt
from flask import Request
from jwt import PyJWKClient

from common.auth import Caller
from common.errors import Unauthenticated, Unavailable

# Asymmetric only: with a symmetric algorithm allowed, a public key could be used to sign (RFC 8725, section 3.1).
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_LEEWAY_SECONDS = 30


class JwtAuthenticator:
    """Verifies `Authorization: Bearer`: signature, issuer, audience, expiry. The subject is the user."""

    def __init__(self, *, jwks_url: str, issuer: str, audience: str) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = PyJWKClient(jwks_url, cache_keys=True, lifespan=300, timeout=3)

    def identify(self, request: Request) -> Caller:
        """The caller named by the token.

        Raises Unauthenticated for a missing or wrong token, Unavailable when the issuer's keys cannot be fetched.
        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("A bearer token is needed.")
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
        except jwt.PyJWKClientConnectionError as error:
            raise Unavailable("Tokens cannot be verified now.") from error
        except jwt.PyJWTError:
            # Why a token is refused is the issuer's business; a forger learns nothing.
            raise Unauthenticated("The token is not valid.") from None
        if not claims["sub"]:
            raise Unauthenticated("The token names no subject.")
        return Caller(claims["sub"])
