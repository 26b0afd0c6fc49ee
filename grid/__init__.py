"""Networks, profiles, buildings and their assets as columns, the physics of each asset, and power flow.

Public here: `Network` (load or take over a network, solve its power flow) and `PowerFlow` (what a solve returns).
Both are imported when first asked for, so that ``import grid`` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grid.network import Network
    from grid.power_flow import PowerFlow

__all__ = ["Network", "PowerFlow"]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name == "Network":
        from grid.network import Network

        return Network
    if name == "PowerFlow":
        from grid.power_flow import PowerFlow

        return PowerFlow
    raise AttributeError(f"module 'grid' has no attribute {name!r}")
