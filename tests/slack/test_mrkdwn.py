"""An agent's Markdown as Slack shows it, and long texts in parts. What a model writes must never call people."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.parts.functions import ROOT

sys.path.insert(0, str(ROOT / "functions" / "response-dispatch"))  # as the host does
from mrkdwn import to_mrkdwn  # isort: skip
from parts import split  # isort: skip

GAP = "\u200b"

CONVERSIONS = {
    "plain words": ("Hello there.", "Hello there."),
    "bold, italic, struck, code": ("**b** *i* _i_ ~~s~~ `c`", "*b* _i_ _i_ ~s~ `c`"),
    "bold italic": ("***x***", "_*x*_"),
    "italic in bold": ("**a _b_ c**", "*a _b_ c*"),
    "bold over lines": ("**one\ntwo**", "*one*\n*two*"),
    "bold inside a word": ("un**believ**able", f"un{GAP}*believ*{GAP}able"),
    "a heading": ("## Next **steps**", "*Next steps*"),
    "paragraphs and lines": ("one\ntwo\n\nthree  \nfour", "one\ntwo\n\nthree\nfour"),
    "a list": ("- one\n- two\n  - three\n    - four", "• one\n• two\n    ◦ three\n        ▪ four"),
    "a numbered list": ("3. c\n4. d", "3. c\n4. d"),
    "a list of tasks": ("- [ ] open\n- [x] done", "• ☐ open\n• ☑ done"),
    "a list with paragraphs": ("- a\n\n  more\n- b", "• a\n    more\n• b"),
    "a quotation": ("> one\n> two", "> one\n> two"),
    "a list in a quotation": ("> - a\n> - b", "> • a\n> • b"),
    "a rule": ("a\n\n---\n\nb", "a\n\n──────────\n\nb"),
    "code without its language": ("```python\nif a < b:\n    c()\n```", "```\nif a &lt; b:\n    c()\n```"),
    "indented code": ("    x = 1", "```\nx = 1\n```"),
    "code in a list": ("1. do\n   ```\n   x\n   ```\n2. go", "1. do\n```\nx\n```\n2. go"),
    "code in a quotation": ("> ```\n> x\n> ```", "```\nx\n```"),
    "a fence in code": ("````\n```\nx\n```\n````", f"```\n`{GAP}``\nx\n`{GAP}``\n```"),
    "a table": ("| a | bb |\n|---|---|\n| **1** | 22 |", "```\na | bb\n--+---\n1 | 22\n```"),
    "a link": ("[here](https://example.com/a?b=1&c=2)", "<https://example.com/a?b=1&amp;c=2|here>"),
    "a link with marks": ("[**bold** label](https://example.com)", "<https://example.com|bold label>"),
    "a link in angles": ("<https://example.com>", "<https://example.com>"),
    "an address": ("<a@example.com>", "<mailto:a@example.com|a@example.com>"),
    "a link that would break out": ("[a](<https://example.com/ |<!here>)", "[a](&lt;https://example.com/ |&lt;!here&gt;)"),
    "a bar in a link": ("[a](<https://example.com/a|b>)", "<https://example.com/a%7Cb|a>"),
    "a label that lies": ("[https://bank.example](https://evil.example)", "<https://evil.example>"),
    "a picture": ("![a cat](https://example.com/cat.png)", "<https://example.com/cat.png|a cat>"),
    "control characters": ("a < b && c > d", "a &lt; b &amp;&amp; c &gt; d"),
    "entities": ("&copy; &lt;b&gt;", "© &lt;b&gt;"),
    "HTML": ("<b>x</b>\n\n<div>y</div>", "&lt;b&gt;x&lt;/b&gt;\n\n&lt;div&gt;y&lt;/div&gt;"),
    "escaped stars": (r"\*not bold\*", f"*{GAP}not bold*"),
    "stars that mean nothing": ("2 * 3 and *.py", "2 * 3 and *.py"),
    "names with underscores": ("snake_case_name", "snake_case_name"),
    "nothing": (" \n ", ""),
}


@pytest.mark.parametrize("what", list(CONVERSIONS))
def test_markdown_becomes_mrkdwn(what: str) -> None:
    markdown, mrkdwn = CONVERSIONS[what]
    assert to_mrkdwn(markdown) == mrkdwn


CALLS = ["<!channel>", "<!here>", "<!everyone>", "<@U0BEN>", "<#C0HELP>", "<!subteam^S1>", "<!channel|x>"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "around",
    ["{}", "**{}**", "`{}`", "# {}", "- {}", "> {}", "```\n{}\n```", "[{}](https://e.com)", "![{}](https://e.com)",
     "| {} |\n|---|\n| {} |", "<b>{}</b>"],
)  # fmt: skip
def test_nobody_is_called(call: str, around: str) -> None:
    assert called(to_mrkdwn(around.replace("{}", call))) == []


@pytest.mark.parametrize("target", ["!channel", "!here", "@U0BEN", "#C0HELP", "!subteam^S1", "javascript:alert(1)", "//x"])
@pytest.mark.parametrize("link", ["[x]({})", "[x](<{}>)", "![x]({})", "[x][1]\n\n[1]: {}", "<{}>"])
def test_a_link_leads_to_the_web_or_nowhere(target: str, link: str) -> None:
    assert "<" not in to_mrkdwn(link.replace("{}", target))


@given(st.lists(st.sampled_from([*"<>!@#&|[]()`*_~\\\n -:.a1U", "https://e.com", "![", "]("]), max_size=60).map("".join))
@settings(max_examples=400, deadline=None)
def test_whatever_a_model_writes_calls_nobody(markdown: str) -> None:
    assert called(to_mrkdwn(markdown)) == []


def called(text: str) -> list[str]:
    """References that are no links to the web."""
    return re.findall(r"<(?!(?i:https?://|mailto:|tel:))[^>]*", text)


class TestSplit:
    def test_a_short_text_is_one_part(self) -> None:
        assert split("short", 100) == ["short"]

    def test_it_is_cut_between_paragraphs_before_lines_before_words(self) -> None:
        assert split("a " * 20 + "\n\n" + "b " * 20, 60) == [("a " * 20).rstrip(), "b " * 20]
        assert split("a " * 20 + "\n" + "b " * 20, 60) == [("a " * 20).rstrip(), "b " * 20]
        assert split("word " * 20, 50)[0] == ("word " * 9).rstrip()

    def test_a_code_block_that_fits_stays_whole(self) -> None:
        block = "```\n" + "x = 1\n" * 10 + "```"
        assert split(f"{'words ' * 10}\n\n{block}", 100)[-1] == block

    def test_a_longer_one_is_closed_and_reopened(self) -> None:
        parts = split("```\n" + "x = 1\n" * 40 + "```", 100)
        assert len(parts) > 2
        assert all(part.startswith("```\n") and part.endswith("\n```") for part in parts)

    def test_links_and_escaped_characters_stay_whole(self) -> None:
        link = "<https://example.com/" + "a" * 30 + "|label>"
        for shift in range(60):
            parts = split("x" * shift + link + "&amp;" * 10, 70)
            assert any(link in part for part in parts)
            assert all(part.replace("&amp;", "").count("&") == 0 for part in parts)

    @given(
        st.lists(
            st.sampled_from(
                ["word ", "\n", "\n\n", "```\n", "**b** ", "<x> ", "& ", "[l](https://e.com/x?a=1) ", "- i\n", "> q\n"]
            ),
            max_size=250,
        ),
        st.integers(60, 300),
    )
    @settings(max_examples=200, deadline=None)
    def test_nothing_is_lost_and_every_part_is_whole(self, pieces: list[str], limit: int) -> None:
        text = to_mrkdwn("".join(pieces))
        parts = split(text, limit)
        assert all(len(part) <= limit for part in parts)
        assert all(part.split("\n").count("```") % 2 == 0 for part in parts)
        assert "".join(map(bare, parts)) == bare(text)


def bare(text: str) -> str:
    return re.sub(r"\s|```", "", text)
