"""An agent's Markdown as Slack's mrkdwn.

The parser is markdown-it-py; the renderer is ours, because what a model writes is not trusted: nothing that it writes may
mention anybody, and no reference is made but a link to the web (PyPI's converters make `<!channel>` of `[x](!channel)`).

Rules: docs.slack.dev, "Formatting message text". mrkdwn has no tables, headings or escapes for its own marks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
_FENCE = "```"
_MARKS = {"strong": "*", "em": "_", "s": "~"}
_BULLETS = ("•", "◦", "▪")
_GAP = "\u200b"  # no width: keeps marks from meaning something, or words from touching marks that do
_SCHEMES = re.compile(r"(https?://|mailto:|tel:)", re.IGNORECASE)
_ACCIDENT = re.compile(r"(?<!\w)([*_~`])(?=\S)(?=[^\n]*?(?<=\S)\1(?!\w))")


def to_mrkdwn(markdown: str) -> str:
    """The text in mrkdwn: blocks apart by an empty line, code blocks fenced by lines of their own."""
    return _blocks(SyntaxTreeNode(_PARSER.parse(markdown)).children)


def escape(text: str) -> str:
    """The text with Slack's three control characters escaped: it cannot hold a mention or a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _blocks(nodes: Sequence[SyntaxTreeNode], depth: int = 0, gap: str = "\n\n") -> str:
    return gap.join(filter(None, (_block(node, depth) for node in nodes)))


def _block(node: SyntaxTreeNode, depth: int) -> str:
    match node.type:
        case "paragraph":
            return _inline(node.children)
        case "heading":
            text = _inline(node.children, frozenset(("strong",))).strip()
            return f"*{text}*" if text else ""
        case "bullet_list" | "ordered_list":
            return _list(node, depth)
        case "blockquote":
            return _prefixed(_blocks(node.children, depth), "> ")
        case "fence" | "code_block":
            return _code(node.content)
        case "table":
            return _code(_table(node))
        case "hr":
            return "──────────"
        case _:
            return escape(node.content)


def _list(node: SyntaxTreeNode, depth: int) -> str:
    first = int(node.attrs.get("start", 1)) if node.type == "ordered_list" else None
    lines = []
    for number, item in enumerate(node.children):
        mark = _BULLETS[min(depth, len(_BULLETS) - 1)] if first is None else f"{first + number}."
        text = _blocks(item.children, depth + 1, "\n")
        for written, box in (("[ ] ", "☐ "), ("[x] ", "☑ "), ("[X] ", "☑ ")):
            if text.startswith(written):
                text = box + text.removeprefix(written)
        begin = f"{mark}\n" if text.startswith(_FENCE) else f"{mark} "
        lines.append((begin + _prefixed(text, "    ").lstrip(" ")).rstrip())
    return "\n".join(lines)


def _prefixed(text: str, prefix: str) -> str:
    """Every line behind the prefix, but not those of a code block: its fences must begin their lines."""
    inside, lines = False, []
    for line in text.split("\n"):
        fence = line == _FENCE
        lines.append(line if fence or inside else f"{prefix}{line}".rstrip())
        inside ^= fence
    return "\n".join(lines)


def _code(content: str) -> str:
    return f"{_FENCE}\n{escape(content.rstrip(chr(10))).replace('```', f'`{_GAP}``')}\n{_FENCE}"


def _table(node: SyntaxTreeNode) -> str:
    rows = [[_plain(cell.children) for cell in row.children] for part in node.children for row in part.children]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join((lines[0], "-+-".join("-" * width for width in widths), *lines[1:]))


def _inline(nodes: Sequence[SyntaxTreeNode], within: frozenset[str] = frozenset()) -> str:
    """Text with marks; `within` are the marks already around it, which mrkdwn cannot nest."""
    out = ""
    marked_before = False
    for node in chain.from_iterable(one.children if one.type == "inline" else (one,) for one in nodes):
        piece, marked = _piece(node, within)
        touches = (marked and out[-1:].isalnum()) or (marked_before and piece[:1].isalnum())
        out += (_GAP if touches else "") + piece
        marked_before = marked and bool(piece)
    return out


def _piece(node: SyntaxTreeNode, within: frozenset[str]) -> tuple[str, bool]:
    """One piece of a line, and whether it begins and ends with a mark."""
    match node.type:
        case "text":
            return _ACCIDENT.sub(rf"\1{_GAP}", escape(node.content)), False
        case "softbreak" | "hardbreak":
            return "\n", False
        case "code_inline":
            text = escape(node.content.replace("\n", " "))
            return (f"`{text}`", True) if "`" not in text and text.strip() else (text, False)
        case "strong" | "em" | "s":
            text = _inline(node.children, within | {node.type})
            if node.type in within or not text.strip():
                return text, False
            mark = _MARKS[node.type]
            return "\n".join(f"{mark}{line}{mark}" if line.strip() else line for line in text.split("\n")), True
        case "link":
            return _link(str(node.attrs.get("href", "")), _plain(node.children)), False
        case "image":
            return _link(str(node.attrs.get("src", "")), _plain(node.children) or "image"), False
        case _:
            return escape(node.content), False


def _link(target: str, label: str) -> str:
    """A reference to the web, or only the label: `!channel`, `@U1` and the like are what a reference must never hold."""
    label = " ".join(label.split())
    if not _SCHEMES.match(target):
        return escape(label)
    safe = re.sub(r"[\s<>|]", lambda found: f"%{ord(found[0]):02X}", target).replace("&", "&amp;")
    # A label that looks like another address would lie about where it leads.
    if not label or _SCHEMES.match(label) or label == target.partition(":")[2]:
        return f"<{safe}>" if not safe.startswith("mailto:") or not label else f"<{safe}|{escape(label)}>"
    return f"<{safe}|{escape(label)}>"


def _plain(nodes: Sequence[SyntaxTreeNode]) -> str:
    """The words alone."""
    words = []
    for node in nodes:
        if node.type in ("softbreak", "hardbreak"):
            words.append(" ")
        else:
            words.append(_plain(node.children) if node.children else node.content)
    return "".join(words)
