"""From the engine's publications to messages: slots and times become texts, members their participants' topics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from hardware.mqtt import Message
from market.engine.config import EngineConfig
from market.engine.publication import Publication
from market.settlement import BILL_LINES
from peerwatt.gateway import topics as t
from peerwatt.gateway.payloads import (
    BillNews,
    BookNews,
    DisputeNews,
    Fill,
    MarketNews,
    MembershipNews,
    NetworkNews,
    OrderNews,
    PriceNews,
    ResultNews,
    SettledNews,
    SlotNews,
    TradeNews,
)
from peerwatt.wire.markets import BookLevel
from peerwatt.wire.money import LinesOut
from peerwatt.wire.times import US, SlotNames, time_text

DAY_S = 86_400.0
_SHORTEST_S = 1.0

encode = msgspec.json.Encoder().encode


class Herald:
    """Writes the messages of publications. Pure: it sends nothing and keeps nothing.

    Parameters
    ----------
    config
        Markets and slot grid.
    participant_of
        Gives a member's participant id, None once it is erased: then nothing is said.
    speed
        Market seconds per second of the wall clock, in which messages expire.
    """

    def __init__(self, config: EngineConfig, participant_of: Callable[[int], str | None], speed: float = 1.0) -> None:
        self._config = config
        self._participant_of = participant_of
        self._markets = {market.market_id: market for market in config.markets}
        self._speed = speed
        self._names = SlotNames(config.start_us, config.slot_s)
        self._writers: dict[str, Callable[[Publication, dict[str, Any]], list[Message]]] = {
            "slot": self._slot,
            "market": self._market,
            "price": self._price,
            "book": self._book,
            "trade": self._trade,
            "network": self._network,
            "settled": self._settled,
            "order": self._order,
            "result": self._result,
            "bill": self._bill,
            "dispute": self._dispute,
            "member": self._member,
        }

    def messages(self, publication: Publication) -> list[Message]:
        """The messages of a publication; none for a topic that MQTT does not have."""
        writer = self._writers.get(publication.topic)
        return [] if writer is None else writer(publication, publication.data)

    def slot_name(self, slot: int) -> str:
        """The slot's start as text."""
        return self._names.text(slot)

    def expiry_s(self, until_us: int, now_us: int) -> float:
        """Real seconds until a market time: at least one, so that what is late is not kept for ever."""
        return max((until_us - now_us) / US / self._speed, _SHORTEST_S)

    # --- for everybody ----------------------------------------------------------------------------------------------

    def _slot(self, p: Publication, data: dict[str, Any]) -> list[Message]:
        name = self.slot_name(p.slot)
        news = SlotNews(p.seq, time_text(p.at_us), p.market, name, data["state"], time_text(data["gate"]))
        return [self._state(t.slot_topic(p.market, name), news, self._end_us(p.slot), p.at_us)]

    def _market(self, p: Publication, data: dict[str, Any]) -> list[Message]:
        reason = data.get("reason", "") if data["state"] == "suspended" else ""
        news = MarketNews(p.seq, time_text(p.at_us), p.market, data["state"], reason)
        return [Message(t.market_topic(p.market), encode(news), retain=True)]

    def _price(self, p: Publication, data: dict[str, Any]) -> list[Message]:
        name = self.slot_name(p.slot)
        news = PriceNews(
            p.seq,
            time_text(p.at_us),
            p.market,
            name,
            data["version"],
            data["price_u"],
            data["price_num"],
            data["price_den"],
            data["volume_wh"],
            data["orders"],
        )
        end_us = self._end_us(p.slot)
        return [
            self._state(t.slot_topic(p.market, name, "price"), news, end_us, p.at_us),
            self._state(t.market_topic(p.market, "price"), news, end_us + self._config.slot_s * US, p.at_us),
        ]

    def _book(self, p: Publication, data: dict[str, Any]) -> list[Message]:
        name = self.slot_name(p.slot)
        buy, sell = ([BookLevel(price_u, e_wh) for price_u, e_wh in data[side]] for side in ("buy", "sell"))
        news = BookNews(p.seq, time_text(p.at_us), p.market, name, buy, sell)
        gate_us = self._config.gate_us(self._markets[p.market], p.slot)
        if gate_us <= p.at_us:
            return []  # what is left then is nobody's to take
        return [self._state(t.slot_topic(p.market, name, "book"), news, gate_us, p.at_us)]

    def _trade(self, p: Publication, data: dict[str, Any]) -> list[Message]:
        name = self.slot_name(p.slot)
        news = TradeNews(p.seq, time_text(p.at_us), p.market, name, data["e_wh"], data["price_u"])
        expiry_s = self.expiry_s(self._end_us(p.slot), p.at_us)
        return [Message(t.slot_topic(p.market, name, "trades"), encode(news), expiry_s=expiry_s)]

    def _network(self, p: Publication, data: dict[str, Any]) -> list[Message]:
        rest = {name: value for name, value in data.items() if name not in ("slot", "loss_wh")}
        news = NetworkNews(p.seq, time_text(p.at_us), self.slot_name(p.slot), data["loss_wh"], rest)
        return [self._state(t.NETWORK, news, self._end_us(p.slot + 2), p.at_us)]

    def _settled(self, p: Publication, data: dict[str, Any]) -> list[Message]:
        name = self.slot_name(p.slot)
        news = SettledNews(p.seq, time_text(p.at_us), name, data["version"], data["reason"], data["loss_wh"])
        return [Message(t.SETTLED, encode(news), expiry_s=DAY_S)]

    # --- for one participant ----------------------------------------------------------------------------------------

    def _order(self, p: Publication, data: dict[str, Any]) -> list[Message]:
        news = OrderNews(
            p.seq,
            time_text(p.at_us),
            p.market,
            self.slot_name(p.slot),
            str(data["order_id"]),
            data["status"],
            data["filled_wh"],
            data["remaining_wh"],
        )
        return self._private(p, "orders/state", news)

    def _result(self, p: Publication, data: dict[str, Any]) -> list[Message]:
        news = ResultNews(
            p.seq,
            time_text(p.at_us),
            p.market,
            self.slot_name(p.slot),
            data["bought_wh"],
            data["sold_wh"],
            data["paid_u"],
            data["received_u"],
            [Fill(str(order), e_wh) for order, e_wh in data["fills"]],
        )
        return self._private(p, "results", news, newest_kept=True)

    def _bill(self, p: Publication, data: dict[str, Any]) -> list[Message]:
        news = BillNews(
            p.seq,
            time_text(p.at_us),
            self.slot_name(p.slot),
            data["version"],
            LinesOut(**dict(zip(BILL_LINES, data["lines_u"], strict=True))),
            data["total_u"],
            data["import_wh"],
            data["export_wh"],
            data["quality"],
        )
        return self._private(p, "bills", news, newest_kept=True)

    def _dispute(self, p: Publication, data: dict[str, Any]) -> list[Message]:
        news = DisputeNews(p.seq, time_text(p.at_us), str(data["dispute"]), self.slot_name(data["slot"]), data["state"])
        return self._private(p, "disputes", news)

    def _member(self, p: Publication, data: dict[str, Any]) -> list[Message]:
        slot = data.get("from_slot")
        from_slot = None if slot is None else self.slot_name(slot)
        news = MembershipNews(p.seq, time_text(p.at_us), data["state"], from_slot, data.get("reason", ""))
        return self._private(p, "membership", news)

    # --- messages ---------------------------------------------------------------------------------------------------

    def _end_us(self, slot: int) -> int:
        return self._config.slot_start_us(slot + 1)

    def _state(self, topic: str, news: msgspec.Struct, until_us: int, now_us: int) -> Message:
        return Message(topic, encode(news), retain=True, expiry_s=self.expiry_s(until_us, now_us))

    def _private(self, p: Publication, name: str, news: msgspec.Struct, *, newest_kept: bool = False) -> list[Message]:
        participant = self._participant_of(p.member)
        if participant is None:
            return []
        topic = t.participant_topic(participant, name)
        return [Message(topic, encode(news), retain=newest_kept, each=newest_kept, expiry_s=DAY_S)]
