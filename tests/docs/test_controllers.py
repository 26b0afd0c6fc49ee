"""The snippets of the pages on controllers, run as they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import ROOT, follow

SAID = {
    "building-plans.md": "",
    "planning.md": "",
    "inverter-functions.md": "[[-7.5 -8.  -4. ]] [[ 3.667  0.    -1.1  ]]\n",
    "microgrid.md": "unplanned-out [('open', 'switch'), ('shed', 'works'), ('power', 'battery')]\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("page", SAID)
def test_the_snippets_run_and_print_what_the_page_says(page: str, tmp_path: Path) -> None:
    assert "".join(follow(ROOT / "docs" / page, tmp_path)) == SAID[page]
