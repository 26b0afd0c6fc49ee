"""Origin of energy: what suppliers state of theirs, and how certificates travel (docs/origin.md)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from peerwatt.scenario.base import Id, Model, Share


class Origin(Model):
    """Where energy comes from: the suppliers' mixes, and how certificates of origin travel (docs/origin.md)."""

    residual_mix: dict[Id, Share] = Field(
        default_factory=dict,
        description="what the grid supplies where no supplier states its mix, by origin, in shares that sum to 1; "
        "default: all of it `grid`",
    )
    supplier_mix: dict[str, dict[Id, Share]] = Field(
        default_factory=dict,
        description="what the supplier of a contract states, by contract and origin, e.g. "
        "{default: {wind: 0.6, unknown: 0.4}}; other contracts have the residual mix",
    )
    storage: Literal["pro_rata", "fifo"] = Field(
        "pro_rata", description="whether a battery gives of all it holds, or the oldest first"
    )
    certificates: Literal["bundled", "separate"] = Field(
        "bundled",
        description="whether a local trade hands the certificate on with the energy; `separate`: the buyer gets energy "
        "of the residual mix, the seller keeps the certificate",
    )
