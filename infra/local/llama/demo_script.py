"""What the demo model says: a pure function from a conversation and its tools to one reply.

It stands in for a language model on a laptop and in tests. It sees what a model would see (system prompt,
messages, tools) and nothing else, so what it knows of earlier turns is what the functions really sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

QUOTE_CHARS = 160
"""The longest piece of a person's message that a reply repeats."""

_LAPTOP = re.compile(r"\b(laptops?|notebooks?|macbook|thinkpad|refresh)\b", re.I)
_MEMORY = re.compile(
    r"\b(?:what|which) (?:did|have|was|were) (?:i|my)\b"
    r"|\bdid i (?:just )?(?:ask|say|tell|write|mention)\b|\b(?:do you remember|remind me what)\b",
    re.I,
)
_FIRST = re.compile(r"\b(first|begin|began|beginning|start|started|initially|originally)\b", re.I)
_ELSEWHERE = re.compile(r"\b(something else|(?:an)?other topic|different topic)\b", re.I)
_SPECIALIST = re.compile(r"\bare the laptop[- ]refresh\b", re.I)
_TICKET = re.compile(r'"ticket(?:_id|_number)?"\s*:\s*"([^"]{1,80})"')
_MODEL = re.compile(r"\b(?:thinkpad|macbook|latitude|elitebook|xps|surface)(?: ?(?:pro|air|[a-z]?\d\w*))*\b", re.I)
_AGE = re.compile(r"\b(?:(?:\d{1,2}|one|two|three|four|five|six) years?(?: old)?|since \d{4})\b", re.I)
_PLACE = re.compile(r"\b(?:to|in|at) (?:(?:the|my) )?(?:home office|office|home)\b", re.I)


@dataclass(frozen=True)
class Call:
    """A tool call: the function's name and its arguments as JSON text, as a model writes them."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Reply:
    """One assistant message: text, or a tool call."""

    text: str = ""
    call: Call | None = None


def text_of(content: object) -> str:
    """Give the text of a chat message's content, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return ""


def reply(messages: Sequence[Mapping[str, object]], tools: Sequence[Mapping[str, object]]) -> Reply:
    """Answer the last user message of an OpenAI chat request.

    `messages` are the request's messages and `tools` its tools, in the Chat Completions shapes.
    """
    system = "\n".join(text_of(m.get("content")) for m in messages if m.get("role") == "system")
    said = [text_of(m.get("content")) for m in messages if m.get("role") == "user"]
    last = said[-1] if said else ""
    if _MEMORY.search(last):
        return Reply(text=_remember(said))
    if call := _transfer(last, _names(tools)):
        return Reply(call=call)
    if _SPECIALIST.search(system):
        return Reply(text=_laptop_refresh(system, said))
    return Reply(text=_front_desk(said))


def _names(tools: Sequence[Mapping[str, object]]) -> list[str]:
    functions = (tool.get("function") for tool in tools)
    return [str(f.get("name", "")) for f in functions if isinstance(f, Mapping)]


def _transfer(last: str, names: Sequence[str]) -> Call | None:
    """Choose the transfer tool whose name fits the topic of the last message, if there is one."""
    for name in names:
        if not name.startswith("transfer_to_"):
            continue
        if ("laptop" in name and _LAPTOP.search(last)) or ("routing" in name and _ELSEWHERE.search(last)):
            return Call(name=name, arguments=json.dumps({"reason": quote(last)}))
    return None


def quote(text: str) -> str:
    """Shorten a person's message to one line that can be repeated."""
    line = " ".join(text.split())
    return line if len(line) <= QUOTE_CHARS else line[: QUOTE_CHARS - 1] + "…"


def _remember(said: Sequence[str]) -> str:
    if len(said) < 2:
        return "This is the first message of our conversation, so there is nothing before it."
    if _FIRST.search(said[-1]):
        return f"The first thing you wrote was: “{quote(said[0])}”."
    return f"Just before this you wrote: “{quote(said[-2])}”."


def _front_desk(said: Sequence[str]) -> str:
    last = said[-1] if said else ""
    earlier = f" Earlier you wrote: “{quote(said[-2])}”." if len(said) > 1 else ""
    return (
        f"You wrote: “{quote(last)}”.{earlier} I am the IT self-service desk. I can start a laptop refresh "
        "for you; for anything else, tell me the device or service and what happens, and I will find "
        "who can help."
    )


def _laptop_refresh(system: str, said: Sequence[str]) -> str:
    """Answer as the laptop-refresh agent: what the conversation told already, and what is still needed."""
    whole = "\n".join(said)
    known = [
        (name, found.group(0))
        for name, pattern in (("laptop", _MODEL), ("in use", _AGE), ("delivery", _PLACE))
        if (found := pattern.search(whole))
    ]
    needs = {
        "laptop": "the model of your laptop",
        "in use": "how long you have had it",
        "delivery": "whether to deliver to your office or your home",
    }
    for name, _ in known:
        del needs[name]
    ticket = _TICKET.search(system)
    parts = [f"About “{quote(said[-1] if said else '')}”: I can help with your laptop refresh."]
    if ticket:
        parts.append(f"I am working on ticket {ticket.group(1)}.")
    if len(said) > 1:
        parts.append(f"You came to me with: “{quote(said[0])}”.")
    if known:
        parts.append("I have noted " + ", ".join(f"{name}: {value}" for name, value in known) + ".")
    if needs:
        parts.append("Laptops are refreshed after three years of use.")
        parts.append("Please tell me " + "; ".join(needs.values()) + ".")
    else:
        parts.append("That is all I need: I will file the refresh request now.")
    return " ".join(parts)
