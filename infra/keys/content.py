"""The content of the Secret's two entries, TOOL_KEYS and WEBHOOK_SECRETS, and what an operator does to it.

Both are JSON: a list for each name, the newest last. Nothing here reads or writes a file; each function returns new content.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence

KEY_PREFIX = "ssa_"
SECRET_PREFIX = "whsec_"  # noqa: S105 # pragma: allowlist secret
MOST = 5  # keys of one name: more is a rotation that nobody finished
_SHORTEST = 6  # characters of a hash that are enough to name it
_NAME_LENGTH = 128  # common.events: integration_key

Content = Mapping[str, Sequence[str]]


class KeysError(Exception):
    """It cannot be done; the text is one line for the operator, without keys or secrets."""


def parse(text: str, kind: str) -> dict[str, list[str]]:
    """The content as lists. An empty text is an empty content; a single webhook secret is a list of one.

    Raises KeysError when it is of another form.
    """
    try:
        document = json.loads(text) if text.strip() else {}
        if not isinstance(document, dict):
            raise TypeError
        content = {name: [value] if isinstance(value, str) else list(value) for name, value in document.items()}
        if not all(isinstance(one, str) for several in content.values() for one in several):
            raise TypeError
    except (ValueError, TypeError):
        raise KeysError(f"this is not the content of {kind}: JSON, {{name: [text, …]}}") from None
    return content


def dump(content: Content) -> str:
    """The content as the Secret holds it."""
    return json.dumps({name: list(several) for name, several in sorted(content.items())}, indent=1) + "\n"


def new_key() -> tuple[str, str]:
    """A key of 256 random bits, and what is kept of it: its SHA-256 (a plain hash is enough for random keys)."""
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    return key, f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def new_secret() -> tuple[str, str]:
    """A webhook secret of 256 random bits, which both sides keep whole: it signs (Standard Webhooks, symmetric)."""
    secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
    return secret, secret


def fingerprint(kept: str) -> str:
    """What names a kept value: hexadecimal digits of a hash. Of a webhook secret too: it must not be shown."""
    if kept.startswith("sha256:"):
        return kept.removeprefix("sha256:")
    return hashlib.sha256(kept.encode()).hexdigest()


def create(content: Content, name: str, kept: str) -> dict[str, list[str]]:
    """With the first key of a name. Raises KeysError when it has one."""
    if not name.strip() or len(name) > _NAME_LENGTH or not name.isprintable():
        raise KeysError(f"a name has 1 to {_NAME_LENGTH} printable characters")
    if content.get(name):
        raise KeysError(f"{name} has a key already: rotate it")
    return {**_lists(content), name: [kept]}


def rotate(content: Content, name: str, kept: str) -> dict[str, list[str]]:
    """With another key, the newest, beside those there are. Raises KeysError when there is none, or too many."""
    several = _of(content, name)
    if len(several) >= MOST:
        raise KeysError(f"{name} has {len(several)} keys: revoke old ones first")
    return {**_lists(content), name: [*several, kept]}


def revoke(content: Content, name: str, prefix: str | None, *, everything: bool) -> tuple[dict[str, list[str]], list[str]]:
    """Without all but the newest key; or without the one whose hash begins with `prefix`; or without the name.

    Gives the new content and the fingerprints of what was revoked. Raises KeysError when nothing or more than one matches,
    and when nothing would be left, which only `everything` may do.
    """
    several = _of(content, name)
    if everything:
        left: list[str] = []
    elif prefix is None:
        left = several[-1:]
    else:
        matching = _matching(several, prefix)
        left = [one for one in several if one != matching]
    gone = [fingerprint(one) for one in several if one not in left]
    if not gone:
        raise KeysError(f"{name} has one key only; --all takes the tool's access away")
    if not left and not everything:
        raise KeysError(f"it is the only key of {name}; --all takes the tool's access away")
    rest = _lists(content)
    if left:
        rest[name] = left
    else:
        del rest[name]
    return rest, gone


def _matching(several: Sequence[str], prefix: str) -> str:
    wanted = prefix.removeprefix("sha256:").lower()
    if len(wanted) < _SHORTEST:
        raise KeysError(f"a hash is named by its first {_SHORTEST} characters at least")
    found = [one for one in several if fingerprint(one).startswith(wanted)]
    if len(found) != 1:
        raise KeysError("no key has a hash that begins so" if not found else "several keys have a hash that begins so")
    return found[0]


def _of(content: Content, name: str) -> list[str]:
    if not content.get(name):
        raise KeysError(f"{name} has no key: create one")
    return list(content[name])


def _lists(content: Content) -> dict[str, list[str]]:
    return {name: list(several) for name, several in content.items()}
