"""A minimal outside bidder: one order per slot, from a profile and two limit prices."""

from __future__ import annotations

from peerwatt.joining.bidder import Bidder
from peerwatt.joining.plan import Plan, Profile, load_profile
from peerwatt.joining.venue import Order, Refused, Venue

__all__ = ["Bidder", "Order", "Plan", "Profile", "Refused", "Venue", "load_profile"]
