"""The commented scenario that ``peerwatt init NAME`` writes."""

from __future__ import annotations

import re
from pathlib import Path

from core.errors import ScenarioError
from peerwatt.scenario.base import ID_PATTERN

TEMPLATE = Path(__file__).parent / "template.yaml"
"""The text; it loads and runs as it is, offline."""


def init_text(name: str) -> str:
    """A scenario called ``name`` with every block explained; it runs as it is, on data that come with the package.

    Raises
    ------
    ScenarioError
        If ``name`` is no valid id.
    """
    if re.match(ID_PATTERN, name) is None or len(name) > 80:
        raise ScenarioError(
            f"{name!r} is no name of a scenario",
            remedy="use lower-case letters, digits, '-', '_' and '.', starting with a letter or digit",
        )
    return TEMPLATE.read_text(encoding="utf-8").replace("@NAME@", name)


def write_template(name: str, folder: Path, *, overwrite: bool = False) -> Path:
    """Write `init_text` to ``folder/name.yaml`` and return its path.

    Raises
    ------
    ScenarioError
        If ``name`` is no valid id, or the file exists and ``overwrite`` is not set.
    """
    text = init_text(name)
    file = folder / f"{name}.yaml"
    try:
        with file.open("w" if overwrite else "x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
    except FileExistsError:
        raise ScenarioError("exists already", file=file, remedy="choose another name, or add --overwrite") from None
    except OSError as error:
        raise ScenarioError(f"cannot be written: {error.strerror}", file=file, remedy="check the folder") from None
    return file
