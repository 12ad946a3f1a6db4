"""An identity provider: keys of its own, a JWKS over HTTP, and tokens, good ones and forged ones."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

AUDIENCE = "self-service-agent"
KID = "key-1"


def new_key() -> rsa.RSAPrivateKey:
    """An RSA key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Issuer:
    """Serves its JWKS at `jwks_url`; `fetches` counts how often it was asked. `broken` makes it answer that instead."""

    def __init__(self) -> None:
        self.key = new_key()
        self.published = {KID: self.key}
        self.fetches = 0
        self.broken: tuple[int, bytes] | None = None
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches += 1
                status, body = issuer.broken or (200, issuer.jwks())
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Tests count `fetches` instead."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.jwks_url = f"{self.url}/jwks"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def jwks(self) -> bytes:
        """The published keys."""
        keys = [
            {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}
            for kid, key in self.published.items()
        ]
        return json.dumps({"keys": keys}).encode()

    def public_pem(self) -> bytes:
        """The public key as everyone may read it."""
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def claims(self, subject: str = "ann", **changes: Any) -> dict[str, Any]:
        """What a good token says; None takes a claim away."""
        now = int(time.time())
        good = {"sub": subject, "iss": self.url, "aud": AUDIENCE, "iat": now, "exp": now + 300}
        return {name: value for name, value in {**good, **changes}.items() if value is not None}

    def token(
        self, subject: str = "ann", *, key: rsa.RSAPrivateKey | None = None, kid: str | None = KID, **changes: Any
    ) -> str:
        """A token signed with RS256."""
        headers = {"kid": kid} if kid is not None else None
        return jwt.encode(self.claims(subject, **changes), key or self.key, algorithm="RS256", headers=headers)

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


def encoded(part: bytes) -> str:
    """Base64url without padding (RFC 7515)."""
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def unsigned(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token with this header and any signature."""
    return ".".join(encoded(part) for part in (json.dumps(header).encode(), json.dumps(claims).encode(), signature))


def hs256(secret: bytes, claims: dict[str, Any], kid: str = KID) -> str:
    """A token "signed" with a symmetric key, made by hand: PyJWT would refuse to use a public key so."""
    text = unsigned({"alg": "HS256", "typ": "JWT", "kid": kid}, claims).rstrip(".")
    return f"{text}.{encoded(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"
