"""A message's text as people read it: no mention of us, Slack's references readable, its escapes undone.

Rules: docs.slack.dev, "Formatting message text": `<…>` is a reference, and only &, < and > are escaped.
"""

from __future__ import annotations

import re

_REFERENCE = re.compile(r"<([^<>\n]*)>")
_BROADCASTS = {"!here": "@here", "!channel": "@channel", "!everyone": "@everyone"}


def clean(text: str, bot_user: str | None = None) -> str:
    """The text without mentions of `bot_user` and without Slack's markup; may be empty."""
    if bot_user:
        mention = rf"<@{re.escape(bot_user)}(?:\|[^<>\n]*)?>"
        text = re.sub(rf"\A\s*{mention}[ \t]*[:,]?", "", text)
        text = re.sub(rf"[ \t]*{mention}", "", text)
    readable = _REFERENCE.sub(lambda found: _read(found[1]), text)
    return readable.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").replace("\x00", "").strip()


def mentions(text: str, user: str) -> bool:
    """Whether the text mentions this user."""
    return re.search(rf"<@{re.escape(user)}(?:\|[^<>\n]*)?>", text) is not None


def first_mention(text: str) -> str | None:
    """The user that the text begins by mentioning."""
    found = re.match(r"\s*<@([UW][A-Z0-9]+)(?:\|[^<>\n]*)?>", text)
    return found[1] if found else None


def _read(reference: str) -> str:
    target, _, label = reference.partition("|")
    if target.startswith("@"):
        return f"@{label or target[1:]}"
    if target.startswith("#"):
        return f"#{label or target[1:]}"
    if target.startswith("!"):
        return label or _BROADCASTS.get(target, f"@{target[1:]}")
    bare = target.removeprefix("mailto:").removeprefix("tel:")
    if not label or label in (bare, target, re.sub(r"\Ahttps?://", "", target)):
        return bare
    return f"{label} ({bare})"
