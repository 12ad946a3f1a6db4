"""A long mrkdwn text in parts that Slack takes, each whole in itself: a code block that is cut is closed and reopened."""

from __future__ import annotations

import re

MAX_CHARS = 3900  # Slack advises at most 4,000 characters a message (chat.postMessage, "Truncating content")
_FENCE = "```"
_CLOSING = len(_FENCE) + 1
_FENCES = re.compile(r"^```$", re.MULTILINE)
_HALF_ENTITY = re.compile(r"&[a-z]{0,3}\Z")


def split(text: str, limit: int = MAX_CHARS) -> list[str]:
    """The text in parts of at most `limit` characters (at least 40): cut between paragraphs, else lines, else words."""
    parts = []
    while len(text) > limit:
        cut = _cut(text, limit - _CLOSING)
        begin = _open_fence(text, cut)
        if begin is None:
            part, text = text[:cut].rstrip(), text[cut:].lstrip("\n ")
        elif begin > 0 and _end_of_block(text, begin) - begin <= limit:
            part, text = text[:begin].rstrip(), text[begin:]
        else:
            part, text = f"{text[:cut].rstrip(chr(10))}\n{_FENCE}", f"{_FENCE}\n{text[cut:].removeprefix(chr(10))}"
        parts.append(part)
    return [*parts, text]


def _cut(text: str, most: int) -> int:
    """Where to cut: not above `most`, and not in the first half if the text lets us."""
    for boundary in ("\n\n", "\n", " "):
        cut = text.rfind(boundary, 0, most + 1)
        if boundary == "\n\n" and _open_fence(text, cut) is not None:
            continue
        if cut > most // 2:
            return _outside_reference(text, cut)
    return _outside_reference(text, most)


def _outside_reference(text: str, cut: int) -> int:
    """Before the link or the escaped character that the cut would go through."""
    opened = text.rfind("<", 0, cut)
    if opened > 0 and text.rfind(">", opened, cut) < 0:
        return opened
    half = _HALF_ENTITY.search(text, max(0, cut - 4), cut)
    return half.start() if half and half.start() > 0 else cut


def _open_fence(text: str, position: int) -> int | None:
    """Where the code block begins that is open at this position."""
    opened = None
    for fence in _FENCES.finditer(text):
        if fence.start() >= position:
            break
        opened = fence.start() if opened is None else None
    return opened


def _end_of_block(text: str, begin: int) -> int:
    closing = _FENCES.search(text, begin + len(_FENCE))
    return closing.end() if closing else len(text)
