"""What there is to be allowed (scopes), and which roles are allowed what: data, read by everything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Reach = Literal["one", "some", "any", "all", "none"]

SCOPES: Mapping[str, str] = MappingProxyType({
    "market:read": "markets, slots, books, trades, prices",
    "market:operate": "suspend and resume markets, make slots void",
    "orders:read": "the own orders",
    "orders:write": "enter, change and withdraw the own orders",
    "statements:read": "own statements, settlements and disputes",
    "terms:read": "own terms and standing contracts",
    "terms:write": "change own terms, offer and accept standing contracts",
    "measurements:read": "the own meter readings",
    "measurements:write": "hand in meter readings",
    "settlement:read": "totals and versions of settled slots",
    "settlement:operate": "decide disputes, declare and end defaults",
    "network:read": "the network, its state and congestion",
    "network:write": "change the network and its limits",
    "envelopes:read": "the own operating envelope and its receipts",
    "envelopes:publish": "publish operating envelopes and their default",
    "stream:read": "the live stream",
    "audit:read": "the audit log and its head",
    "participants:admin": "participants, keys and roles",
    "clients:admin": "clients of every role, their keys and secrets",
    "personal:read": "everything the service keeps of a person, and who looked at it",
    "personal:erase": "erase a person",
    "metrics:read": "the service's own figures",
    "devices:read": "devices of the guardian and what they measure",
    "devices:control": "tell devices something for a while, and disarm them",
    "devices:stop": "stop every device",
})  # fmt: skip
"""Every scope and what it opens."""


@dataclass(frozen=True, slots=True)
class Role:
    """A role: its scopes, and for whom it acts.

    ``reach``: one participant; some, by name; any, by name or all; all there are; none.
    """

    scopes: frozenset[str]
    reach: Reach


_RESIDENT = frozenset({
    "market:read", "orders:read", "orders:write", "statements:read", "terms:read", "terms:write", "stream:read",
    "envelopes:read", "measurements:read", "personal:read",
})  # fmt: skip

ROLES: Mapping[str, Role] = MappingProxyType({
    "resident": Role(_RESIDENT, "one"),
    "aggregator": Role(_RESIDENT, "some"),
    "meter": Role(frozenset({"measurements:write"}), "any"),
    "operator": Role(
        frozenset({
            "market:read", "market:operate", "settlement:read", "settlement:operate", "participants:admin",
            "audit:read", "stream:read", "statements:read", "measurements:read", "measurements:write", "metrics:read",
            "devices:read", "devices:control", "devices:stop",
        }),
        "all",
    ),
    "grid": Role(
        frozenset({
            "network:read", "network:write", "envelopes:read", "envelopes:publish", "market:read", "market:operate",
            "stream:read", "audit:read", "metrics:read", "devices:read", "devices:control", "devices:stop",
        }),
        "all",
    ),
    "auditor": Role(frozenset({"audit:read", "market:read", "settlement:read", "devices:read"}), "none"),
    "technician": Role(frozenset({"devices:read", "devices:control", "devices:stop", "metrics:read"}), "none"),
    "admin": Role(frozenset(SCOPES), "all"),
})  # fmt: skip
"""Every role."""
