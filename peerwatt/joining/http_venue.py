"""The market over HTTP, through `peerwatt.client`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from core import ServiceError
from peerwatt.client import (
    ApiProblem,
    AsyncClient,
    BadAnswerError,
    ClientError,
    RetryPolicy,
    StreamEvent,
    UnreachableError,
)
from peerwatt.joining.venue import Missed, Moment, News, Order, Outcome, Place, Refused, SlotNews, Taken
from peerwatt.wire import ReadingIn

BRIEF = RetryPolicy(attempts=3, first_s=0.2, most_s=1.0)
"""For saying hello and good-bye: somebody waits."""

PATIENT = RetryPolicy(attempts=10_000, first_s=0.2, most_s=5.0)
"""For everything between: servers come back."""

REF = "join"
_CLEARED = frozenset({"cleared", "settled"})
_PAGE = 200


class HttpVenue:
    """A market over HTTP.

    Parameters
    ----------
    url, key
        The server and the API key.
    market, participant
        Which; None where there is only one.
    meter_key
        A key that may report readings, if the other may not.
    options
        Further ones of `AsyncClient`.
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        market: str | None = None,
        participant: str | None = None,
        meter_key: str | None = None,
        **options: Any,
    ) -> None:
        self.url = url
        self._market = market or ""
        self._participant = participant or ""
        try:
            self._brief = AsyncClient(url, key, **{"retry": BRIEF, **options})
            self._client = AsyncClient(url, key, **{"retry": PATIENT, **options})
            self._meter = AsyncClient(url, meter_key or key, **{"retry": PATIENT, **options})
        except ClientError as error:
            raise ServiceError(str(error)) from None

    async def enter(self) -> Place:
        """Find out who and where we are.

        Raises
        ------
        ServiceError
            If the server cannot be reached, does not know the key, or the key is nobody's who could trade.
        """
        try:
            me = await self._brief.me()
            self._participant = _one_of("participant", self._participant, me.participants, "--participant")
            markets = {market.market: market async for market in self._brief.markets()}
            self._market = _one_of("market", self._market, list(markets), "--market")
        except ClientError as error:
            raise explained(error, self.url) from None
        market = markets[self._market]
        return Place(self._participant, self._market, market.currency, market.slot_s)

    async def news(self) -> AsyncGenerator[News, None]:
        """What happens; reconnects for as long as it takes."""
        try:
            async with aclosing(self._client.stream("slot", "result", market=self._market)) as events:
                async for event in events:
                    for piece in news_of(event, self._market, self._participant):
                        yield piece
                    if event.is_snapshot:
                        yield Moment((await self._client.time()).now)
        except ClientError as error:
            raise explained(error, self.url) from None

    async def open_slots(self) -> list[str]:
        """Slots that take orders, in order of time."""
        try:
            return [slot.slot async for slot in self._client.slots(self._market, state="open", limit=_PAGE)]
        except ClientError as error:
            raise explained(error, self.url) from None

    async def bid(self, order: Order, key: str) -> Taken | Refused:
        """Enter an order, retried with the same key until there is an answer."""
        send = self._client.buy if order.side == "buy" else self._client.sell
        try:
            ack = await send(
                self._market,
                order.slot,
                e_wh=order.e_wh,
                price_u=order.price_u,
                ref=REF,
                participant=self._participant,
                key=key,
            )
        except ApiProblem as problem:
            return _refused(problem, self.url)
        except ClientError as error:
            raise explained(error, self.url) from None
        return Taken(ack.order_id)

    async def outcome(self, slot: str) -> Outcome | None:
        """What our orders of a slot brought; its money is on the statement, not here."""
        try:
            found = await self._client.slot(self._market, slot)
            if found.state not in _CLEARED:
                return Outcome(slot) if found.state == "void" else None
            orders = self._client.orders(self._market, slot=slot, participant=self._participant)
            own = [order async for order in orders]
        except ApiProblem as problem:
            if problem.code.startswith("unknown"):
                return Outcome(slot)  # so long ago that the server has forgotten it
            raise explained(problem, self.url) from None
        except ClientError as error:
            raise explained(error, self.url) from None
        bought_wh = sum(order.filled_wh for order in own if order.side == "buy")
        sold_wh = sum(order.filled_wh for order in own if order.side == "sell")
        return Outcome(slot, bought_wh, sold_wh, None if bought_wh or sold_wh else 0)

    async def report(self, slot: str, import_wh: int, export_wh: int, key: str) -> Refused | None:
        """Report a meter reading."""
        reading = ReadingIn(participant=self._participant, slot=slot, import_wh=import_wh, export_wh=export_wh)
        try:
            await self._meter.report([reading], key=key)
        except ApiProblem as problem:
            return _refused(problem, self.url)
        except ClientError as error:
            raise explained(error, self.url) from None
        return None

    async def withdraw(self, key: str) -> int | None:
        """Cancel the orders that this bidder entered and that are open still."""
        n = 0
        try:
            orders = self._brief.orders(self._market, status="open", participant=self._participant, limit=_PAGE)
            for number in [order.order_id async for order in orders if order.ref == REF]:
                n += len((await self._brief.cancel_order(self._market, number, key=f"{key}-{number}")).cancelled)
        except ClientError as error:
            raise explained(error, self.url) from None
        return n

    async def close(self) -> None:
        """Close the connections."""
        for client in (self._brief, self._client, self._meter):
            await client.close()


def news_of(event: StreamEvent, market: str, participant: str) -> list[News]:
    """What an event of the stream means to a bidder."""
    if event.is_snapshot:
        return [Missed()]
    data, seq = event.data, int(event.event_id.partition("-")[0] or 0)
    news: list[News] = []
    if data.get("market") == market and data.get("participant", participant) == participant:
        if event.topic == "slot":
            news.append(SlotNews(data["slot"], data["state"], seq))
        elif event.topic == "result":
            amount_u = data["paid_u"] - data["received_u"]
            news.append(Outcome(data["slot"], data["bought_wh"], data["sold_wh"], amount_u, seq))
    if "at" in data:
        news.append(Moment(data["at"], seq))
    return news


def explained(error: ClientError, url: str) -> ServiceError:
    """A client's error with what to do about it."""
    if isinstance(error, UnreachableError):
        return ServiceError(
            f"{url} does not answer: {error.reason}", remedy="is `peerwatt serve` running there, and on that port?"
        )
    if isinstance(error, BadAnswerError):
        return ServiceError(f"{url} is no market: {error}", remedy="give the address of `peerwatt serve`")
    if isinstance(error, ApiProblem):
        remedy = _REMEDIES.get(error.code) or _REMEDIES.get(str(error.status))
        if error.code == "http_404":
            remedy = "give the address of `peerwatt serve`"
        return ServiceError(f"{url} refuses: {error}", remedy=remedy)
    return ServiceError(str(error))


_REMEDIES = {
    "401": "the server does not know this key, or it was revoked: put the right one into the key file, or ask the "
    "operator for a new one (POST participants/ID/keys)",
    "not_a_member": "ask the operator to make you a member of this market first (POST participants)",
    "403": "this key may not do that: ask the operator for one with the role of a resident",
}


def _refused(problem: ApiProblem, url: str) -> Refused:
    """A refusal of this one request; those that will not change are raised."""
    if problem.status == 401 or problem.code == "not_a_member":
        raise explained(problem, url) from None
    return Refused(problem.code, problem.detail or problem.problem.title)


def _one_of(what: str, asked: str, there: list[str], option: str) -> str:
    """The one that was asked for, or the only one."""
    if asked:
        if asked in there:
            return asked
        names = ", ".join(there) or "none"
        raise ServiceError(f"this key has no {what} {asked!r}; it has {names}", remedy=f"change {option}")
    if len(there) == 1:
        return there[0]
    if not there:
        raise ServiceError(
            f"this key stands for no {what}: it cannot trade",
            remedy="use a key of a participant; the operator makes one with POST participants/ID/keys",
        )
    raise ServiceError(f"there is more than one {what}: {', '.join(there)}", remedy=f"choose with {option}")
