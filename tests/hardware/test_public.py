"""The package's front: light to import, and an unknown name is an ordinary mistake."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hardware
from tests.repo.files import ROOT


def test_importing_hardware_loads_no_driver() -> None:
    code = "import sys, hardware; hardware.Storage; print(sorted({'pymodbus', 'numba'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Reactor'"):
        hardware.Reactor  # noqa: B018
