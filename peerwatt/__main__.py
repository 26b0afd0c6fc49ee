"""``python -m peerwatt``: the same as the command ``peerwatt``."""

from __future__ import annotations

import sys
from pathlib import Path

if not sys.flags.safe_path and sys.path:
    # `python -m` puts the working directory first, where a user's own grid.py would stand in front of ours. Our own
    # folders go last instead, for a checkout that is not installed.
    del sys.path[0]
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from peerwatt.cli import main

if __name__ == "__main__":
    sys.exit(main())
