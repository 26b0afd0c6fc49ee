"""README, changelog and docs say what is so: commands exist, links lead somewhere."""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import shlex

import pytest

from peerwatt.cli import build_parser
from tests.repo.files import ROOT, name_of, walk

BLOCK = re.compile(r"^```(?:sh|bash|shell|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"^    ((?:make|peerwatt) .+)$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
MAKE = re.compile(r"`make ([a-z-]+)`")
TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)
SHELL = frozenset({"|", "||", "&", ">", "2>&1"})  # what comes after these is no word of the command

DOCUMENTS = sorted(path for path in [*walk(ROOT / "docs"), *ROOT.glob("*.md")] if path.suffix == ".md")
NAMES = [name_of(path) for path in DOCUMENTS]


def _commands(text: str) -> list[list[str]]:
    """The commands of shell blocks, without prompts and comments, continued lines joined."""
    blocks = [*BLOCK.findall(text), "\n".join(INDENTED.findall(text))]
    lines = [part for block in blocks for line in block.replace("\\\n", " ").splitlines() for part in line.split("&&")]
    split = (shlex.split(line.strip().removeprefix("$ "), comments=True) for line in lines)
    return [words for found in split if (words := list(itertools.takewhile(lambda word: word not in SHELL, found)))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_commands_exist(document: object) -> None:
    text = document.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))
    for words in _commands(text):
        if words[0] == "make":
            assert {w for w in words[1:] if "=" not in w} <= targets, " ".join(words)
        elif words[0] == "peerwatt":
            complaint = io.StringIO()
            try:
                with contextlib.redirect_stderr(complaint):
                    build_parser().parse_args(words[1:])
            except SystemExit as stop:
                pytest.fail(f"{shlex.join(words)}: {complaint.getvalue()}") if stop.code else None
    assert set(MAKE.findall(text)) <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_links_inside_the_repository_lead_somewhere(document: object) -> None:
    folder = document.parent  # type: ignore[attr-defined]
    text = document.read_text(encoding="utf-8")  # type: ignore[attr-defined]
    inside = [
        target
        for target in LINK.findall(CODE.sub("", text))
        if "://" not in target and not target.startswith("mailto:")
    ]
    assert not [target for target in inside if not (folder / target).exists()]


def test_the_readme_names_the_two_commands() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert {("make", "demo"), ("make", "test")} <= {tuple(words[:2]) for words in _commands(readme)}


def test_the_changelog_has_room_for_the_next_change() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"


def test_decisions_are_numbered_without_gaps_and_follow_the_template() -> None:
    folder = ROOT / "docs" / "decisions"
    records = sorted(folder.glob("[0-9]*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    parts = re.findall(r"^## (.+)$", (folder / "template.md").read_text(encoding="utf-8"), re.MULTILINE)
    for record in records:
        assert re.findall(r"^## (.+)$", record.read_text(encoding="utf-8"), re.MULTILINE) == parts, record.name
