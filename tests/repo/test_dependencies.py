"""What the packages import is what ``pyproject.toml`` asks for and ``requirements.lock`` pins, and nothing else."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from functools import cache

import pytest

from tests.repo.files import PACKAGES, ROOT, name_of, package_files, tree

DISTRIBUTION = {
    "httpx_sse": "httpx-sse",
    "jwt": "pyjwt",
    "paho": "paho-mqtt",
    "power_grid_model": "power-grid-model",
    "prometheus_client": "prometheus-client",
    "pydantic_core": "pydantic",
    "yaml": "pyyaml",
}
OPTIONAL = {"pyvisa", "simbench"}
NOT_IMPORTED = {
    "aiosqlite",  # SQLAlchemy loads it for sqlite+aiosqlite://
    "fastapi-offline",  # its Swagger UI files are served; none of its code runs
    "httptools",  # uvicorn loads it by name
    "tzdata",  # data that the standard library's zoneinfo looks for
}


def _project() -> dict[str, list[str]]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {
        group: [re.split(r"[<>=!~;\[ ]", entry)[0].lower() for entry in entries] for group, entries in groups.items()
    }


@cache
def _imported() -> dict[str, str]:
    """Distribution of every third-party import, with a place where it stands."""
    found: dict[str, str] = {}
    for path in package_files():
        for node in ast.walk(tree(path)):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module]
            for module in modules:
                head = module.partition(".")[0]
                if head not in sys.stdlib_module_names and head not in PACKAGES:
                    found.setdefault(DISTRIBUTION.get(head, head), f"{name_of(path)}:{node.lineno}")
    return found


@pytest.mark.slow
def test_every_import_is_a_declared_dependency() -> None:
    declared = set(_project()[""]) | OPTIONAL
    missing = {name: place for name, place in _imported().items() if name not in declared}
    assert not missing, f"declare in pyproject.toml: {missing}"


def test_every_declared_dependency_is_used() -> None:
    idle = set(_project()[""]) - set(_imported()) - NOT_IMPORTED
    assert not idle, f"nobody imports {sorted(idle)}"


def test_the_lock_pins_every_declared_dependency() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    pinned = {line.split("==")[0] for line in lock.splitlines() if "==" in line}
    wanted = {name for group, names in _project().items() if group in ("", "dev") for name in names}
    assert wanted <= pinned, f"`make lock` is due: {sorted(wanted - pinned)}"


def test_the_wheel_takes_every_package() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert sorted(tool["packages"]["find"]["include"]) == sorted(f"{name}*" for name in PACKAGES)
    for name in PACKAGES:
        assert "py.typed" in tool["package-data"][name]
        assert (ROOT / name / "py.typed").is_file()
        for folder in {path.parent for path in package_files() if path.is_relative_to(ROOT / name)}:
            assert (folder / "__init__.py").is_file(), f"{name_of(folder)} has no __init__.py: the wheel would lack it"
