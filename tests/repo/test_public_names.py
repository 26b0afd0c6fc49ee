"""What a folder lists as public exists and says what it is; quantities carry their unit in their name."""

from __future__ import annotations

import ast
import importlib
import inspect
import re

import pytest

from tests.repo.files import PACKAGES, name_of, package_files, tree

UNITLESS = re.compile(r"(?:^|_)(?:power|energy|voltage|current|capacity|duration|timeout|temperature|frequency)$")
NUMBER = re.compile(r"\b(?:int|float|Float|Floats|Int|Ints|NDArray)\b")
WHOLE = re.compile(r"^(?:int|Int|Ints)\b")  # an energy that is a whole number is Wh everywhere


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_and_documented(package: str) -> None:
    module = importlib.import_module(package)
    assert inspect.getdoc(module), f"{package} has no docstring"
    names = list(module.__all__)
    assert len(names) == len(set(names))
    for name in names:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isroutine(value):
            assert inspect.getdoc(value), f"{package}.{name} has no docstring"


def _typed_names(module: ast.Module) -> list[tuple[int, str, str]]:
    """Line, name and type of every annotated argument, field and variable."""
    found: list[tuple[int, str, str]] = []
    for node in ast.walk(module):
        if isinstance(node, ast.arg) and node.annotation is not None:
            found.append((node.lineno, node.arg, ast.unparse(node.annotation)))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.append((node.lineno, node.target.id, ast.unparse(node.annotation)))
    return found


@pytest.mark.slow
def test_numbers_that_are_quantities_name_their_unit() -> None:
    found = [
        f"{name_of(path)}:{line}: {name}"
        for path in package_files()
        for line, name, kind in _typed_names(tree(path))
        if UNITLESS.search(name) and NUMBER.search(kind)
        if not (name.endswith("energy") and WHOLE.search(kind))
    ]
    assert not found, "which unit?\n" + "\n".join(found)


def test_the_unit_lint_sees_and_lets_pass() -> None:
    names = _typed_names(ast.parse("def f(max_power: float, e_wh: int, power: str, timeout_s: float): ..."))
    assert [n for _, n, kind in names if UNITLESS.search(n) and NUMBER.search(kind)] == ["max_power"]
