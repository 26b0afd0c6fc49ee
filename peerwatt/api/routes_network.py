"""The network, what it did in the last slot, and where it is at its limits."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from market.engine.state import State
from peerwatt import wire
from peerwatt.api import views_money as views
from peerwatt.api.etag import etag
from peerwatt.api.failures import unknown
from peerwatt.api.lookup import Listing, numbered, slot_index
from peerwatt.api.operation import Answer, Call, Group, Paged
from peerwatt.api.routes_markets import text
from peerwatt.wire.fields import In, Page

routes = Group("Network")
READ = "network:read"

At = Annotated[wire.Slot, Meta(description="Which slot; default: the last one that is known.")]


class StateQuery(In):
    """Which slot."""

    at: At | UnsetType = UNSET


class CongestionQuery(Paged):
    """Which slot."""

    at: At | UnsetType = UNSET


def _network(call: Call) -> wire.NetworkOut:
    network = call.service.network
    if network is None:
        raise unknown("network", "the scenario has none")
    return network


@routes.get(
    "/network", "getNetwork", "The network with its ratings and limits",
    scope=READ, answer=wire.NetworkOut, tagged=True, problems=(404,),
)  # fmt: skip
async def get_network(call: Call) -> Answer:
    """Buses with their voltage limits, lines and transformers with their ratings. The ETag is its version."""
    network = _network(call)
    return Answer(network, etag=etag(network.version))


async def _state(call: Call) -> wire.NetworkStateOut:
    service, network, at = call.service, _network(call), text(call.query.at)
    slot = None if at is None else slot_index(service, at)

    def look(state: State) -> wire.NetworkStateOut | None:
        known = [s for s in state.slots.values() if s.network_seq and (slot is None or s.slot == slot)]
        if not known:
            return None
        return views.network_state_out(service.names, max(known, key=lambda s: s.slot), network)

    found = await service.engine.read(look)
    if found is None:
        raise unknown("network_state", at or "no slot has been measured yet")
    return found


@routes.get(
    "/network/state", "getNetworkState", "What the wires did in a slot",
    scope=READ, answer=wire.NetworkStateOut, query=StateQuery, problems=(404,),
)  # fmt: skip
async def get_network_state(call: Call) -> Answer:
    """Voltages, loadings and losses, means over the slot."""
    return Answer(await _state(call))


@routes.get(
    "/congestion", "listCongestion", "Elements at or near a limit",
    scope=READ, answer=Page[wire.CongestionOut], query=CongestionQuery, problems=(404,),
)  # fmt: skip
async def list_congestion(call: Call) -> Answer:
    """Buses near a voltage limit, lines and transformers near or beyond their rating."""
    found = views.congestion_out(await _state(call), _network(call))
    return Answer(Listing[wire.CongestionOut](call).page(numbered(found)))
