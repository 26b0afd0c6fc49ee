"""Kernels are compiled once for all processes of a run of the tests: who comes second waits, and loads the result."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def compiled_once(folder: Path) -> Iterator[None]:
    """While it lasts, a kernel that is kept on the disk is compiled by one process at a time; ``folder`` is shared.

    numba looks for what is on the disk before it compiles, but nobody waits for a process that is still at it.
    """
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.dispatcher import Dispatcher

    compile_anyway = Dispatcher.compile
    ours: set[str] = set()

    def compile_alone(kernel: Any, signature: Any) -> Any:
        name = f"{kernel.py_func.__module__}.{kernel.py_func.__qualname__}"
        with global_compiler_lock:  # first of the two, always: one thread of a process compiles, and waits for others
            if kernel._cache.cache_path is None or name in ours:
                return compile_anyway(kernel, signature)
            ours.add(name)
            try:
                with (folder / f"{name}.lock").open("ab") as file:
                    fcntl.flock(file, fcntl.LOCK_EX)
                    return compile_anyway(kernel, signature)
            finally:
                ours.discard(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dispatcher, "compile", compile_alone)
        yield
