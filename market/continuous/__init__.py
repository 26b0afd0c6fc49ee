"""The continuous double auction: an order book by events, and the same compiled for columns of events.

`OrderBook` is the event interface (``submit``, ``cancel``, ``replace``, ``close_gate``); `replay` answers whole streams
and `clear_rounds` sessions in which all orders are quoted anew round by round, with the same results.
"""

from __future__ import annotations

from market.continuous.events import (
    REASONS,
    STATUSES,
    Ack,
    Cancel,
    EventColumns,
    Gate,
    Limit,
    Market,
    Reason,
    Replace,
    Status,
    Tif,
)
from market.continuous.order_book import OrderBook, OrderState, Quote
from market.continuous.replay import EventOutcome, replay
from market.continuous.rounds import Session, clear_rounds, session

__all__ = [
    "REASONS",
    "STATUSES",
    "Ack",
    "Cancel",
    "EventColumns",
    "EventOutcome",
    "Gate",
    "Limit",
    "Market",
    "OrderBook",
    "OrderState",
    "Quote",
    "Reason",
    "Replace",
    "Session",
    "Status",
    "Tif",
    "clear_rounds",
    "replay",
    "session",
]
