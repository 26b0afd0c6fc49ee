"""Small files that a newcomer can hold: a file of 450 lines, a function of 60 (a compiled kernel 80) and no more."""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.repo.files import name_of, package_files, tree

FILE_LINES = 450
FUNCTION_LINES = 60
KERNEL_LINES = 80

# Each exception with its reason; short, and emptied when the reason is gone.
ALLOWED: dict[str, str] = {}


def _is_kernel(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any("njit" in ast.unparse(d) or "vectorize" in ast.unparse(d) for d in function.decorator_list)


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from the name to the end without the docstring."""
    whole = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        whole -= (first.end_lineno or first.lineno) - first.lineno + 1
    return whole


@cache
def _too_long() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in package_files():
        name = name_of(path)
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > FILE_LINES:
            found[name] = f"{lines} lines"
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                limit = KERNEL_LINES if _is_kernel(node) else FUNCTION_LINES
                if _lines(node) > limit:
                    found[f"{name}:{node.name}"] = f"{_lines(node)} lines, {limit} allowed"
    return found


@pytest.mark.slow
def test_files_and_functions_are_small() -> None:
    found = {name: why for name, why in _too_long().items() if name not in ALLOWED}
    assert not found, "split these:\n" + "\n".join(f"{name}: {why}" for name, why in found.items())


def test_the_exceptions_are_still_needed() -> None:
    assert set(ALLOWED) <= set(_too_long()), "take what is small again off the list"
    assert len(ALLOWED) <= 5, "a list of exceptions this long is no rule"
