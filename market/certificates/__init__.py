"""Guarantees of origin: a registry, matching with consumption, and the origin of all energy (market-rules 2.23, 2.28).

Not a market rule: no order and no price depends on it. It follows whatever rule ran, after settlement (4.2, step 7).
"""

from market.certificates.matching import allocate_certificates, matched_share, matched_wh
from market.certificates.registry import Balance, Batch, CertificateRegistry
from market.certificates.tracing import (
    ACCOUNT,
    PPM,
    WAYS,
    EnergyFlows,
    LocalTrades,
    OriginSetup,
    OriginState,
    TracedOrigins,
    local_delivery,
    trace,
)

__all__ = [
    "ACCOUNT",
    "PPM",
    "WAYS",
    "Balance",
    "Batch",
    "CertificateRegistry",
    "EnergyFlows",
    "LocalTrades",
    "OriginSetup",
    "OriginState",
    "TracedOrigins",
    "allocate_certificates",
    "local_delivery",
    "matched_share",
    "matched_wh",
    "trace",
]
