"""Nothing in the repository belongs to one person's machine, and the lock installs from wherever packages come from."""

from __future__ import annotations

import re

import pytest

from tests.repo.files import ROOT, name_of, text_files

# Put together from pieces, so that this file does not find itself.
_OWN_FOLDERS = "|".join(("wo" + "rk", "ro" + "ot", "ho" + r"me/\w+", "Us" + r"ers/\w+", "mn" + "t", "op" + "t"))
ABSOLUTE = re.compile(rf"(?<![\w./:~*-])/(?:{_OWN_FOLDERS})/[\w.-]+")
INDEX = re.compile(
    "|".join(("index" + "-url", "find" + "-links", "trusted" + "-host", "python" + "hosted", "py" + r"pi\.org"))
)
SECRET = re.compile(r"(?i)\b(?:api[_-]?key|password|secret|token)\s*[=:]\s*['\"][^'\"<{$ ]{8,}['\"]")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "pattern"),
    [("a path of one machine", ABSOLUTE), ("a package index", INDEX), ("something secret", SECRET)],
    ids=["path", "index", "secret"],
)
def test_no_text_names(what: str, pattern: re.Pattern[str]) -> None:
    allowed = {("a package index", "Makefile")}  # switches such addresses off when the lock is made
    found = [
        f"{name_of(path)}:{number}: {line.strip()[:100]}"
        for path in text_files()
        if (what, name_of(path)) not in allowed
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, f"{what} is named:\n" + "\n".join(found)


def test_the_patterns_find_what_they_are_for() -> None:
    assert ABSOLUTE.search("open('/ho" + "me/ada/grid.json')")
    assert ABSOLUTE.search("cp /wo" + "rk/main .")
    assert not ABSOLUTE.search("/usr/bin/env bash")
    assert not ABSOLUTE.search("docs/wo" + "rk/x")
    assert SECRET.search("pass" + "word = 'correct-horse'")


def test_the_lock_holds_versions_only() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    pin = re.compile(r"^[a-z0-9][a-z0-9._-]*==[\w.+!]+( ; .+)?$")
    assert lines
    assert not [line for line in lines if not pin.match(line)]
