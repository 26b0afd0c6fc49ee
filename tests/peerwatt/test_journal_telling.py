"""What `peerwatt journal explain` prints fits on lines, and the page names what each kind of record holds."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from controllers.guardian.journal import KINDS, Entry, Explanation
from peerwatt.journal_telling import told

PAGE = Path(__file__).parents[2] / "docs" / "device-journal.md"
AT = datetime(2026, 11, 23, 8, 5, tzinfo=UTC)


def _line(kind: str, **body: object) -> str:
    entry = Entry(7, AT, 0.0, 6, kind, {"device": "inv", **body}, bytes(32))
    return told(Explanation("inv", AT, AT, (entry,), ())).splitlines()[-1]


def test_a_long_read_back_is_told_in_words() -> None:
    expected = [None] * 51 + [1, 2, 3, 4]
    words = [*range(51), 1, 2, 3, 4]
    line = _line("read_back", intent=3, ok=True, words=words, expected=expected)
    assert line.endswith("words=55 words as expected") and "None" not in line and "[" not in line
    line = _line("read_back", intent=3, ok=False, words=[*words[:-1], 0x3E8], expected=expected)
    assert "03e8 for 0004 at word 54, of 55 words" in line
    assert "expected=55 words" not in line and "3 words where 55 were" in _line(
        "read_back", words=[1, 2, 3], expected=expected
    )
    assert len(_line("read_back", words=None, expected=expected, problem="no answer")) < 100


def test_an_intent_names_its_registers_as_a_range() -> None:
    assert _line("intent", address=40236, words=[3000]).endswith("address=40236 words=[0bb8]")
    assert _line("intent", address=40236, words=[0, 20]).endswith("address=40236-40237 words=[0000 0014]")
    assert _line("intent", address=1, words=[5] * 9).endswith("address=1-9 words=[0005 0005 0005 0005] and 5 more")


def test_the_page_names_every_kind_and_every_key_of_it() -> None:
    text = PAGE.read_text(encoding="utf-8").partition("| kind |")[2]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))
    assert list(rows) == list(KINDS)
    for kind in ("intent", "response", "read_back", "effect"):
        for key in re.findall(r"[a-z_]+", re.sub(r"\(.*?\)", "", KINDS[kind].partition(": ")[2] or KINDS[kind])):
            assert f"`{key}`" in rows[kind] or key == "and", (kind, key)
