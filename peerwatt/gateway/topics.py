"""The topics: one table, from which the gateway, the ACL file, the documentation and the checks are made."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

ROOT = "peerwatt/v1"
PARTICIPANTS = f"{ROOT}/participants"
STATUS = f"{ROOT}/status"
CHECK = f"{ROOT}/check"
NETWORK = f"{ROOT}/operator/network"
SETTLED = f"{ROOT}/operator/settled"
DEVICES = f"{ROOT}/operator/devices"
HOME_ASSISTANT = "homeassistant"
IDENT = "peerwatt_"

_PREFIX = PARTICIPANTS.count("/") + 1
_BAD = frozenset("/+#\x00")


class Who(StrEnum):
    """Who may read or write a topic."""

    GATEWAY = "gateway"
    PARTICIPANT = "the participant"
    EVERYBODY = "everybody"
    METERS = "participant, or the metering account"


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """A line of the table of topics.

    Parameters
    ----------
    template
        With ``{market}``, ``{device}``, ``{slot}`` (its start, ``2016-06-01T12:00:00Z``) and ``{participant}``.
    writes, reads
        Who may publish and who may read.
    payload
        Name of its schema, see `peerwatt.gateway.payloads.SCHEMAS`; empty: whatever one likes.
    retain
        Whether the newest message is kept for those who subscribe later.
    expiry
        When a message becomes worthless, in words.
    about
        What it says.
    """

    template: str
    writes: Who
    reads: Who
    payload: str
    retain: bool
    expiry: str
    about: str

    def filter(self, participant: str = "+") -> str:
        """The topic filter of all of it, or of one participant's."""
        text = self.template.replace("{participant}", participant)
        return text.replace("{market}", "+").replace("{slot}", "+").replace("{device}", "+")


_MARKET = ROOT + "/markets/{market}"
_SLOT = _MARKET + "/slots/{slot}"
_OWN = PARTICIPANTS + "/{participant}"
_DAY = "1 day"


def _public(template: str, payload: str, expiry: str, about: str, *, retain: bool = True) -> TopicInfo:
    return TopicInfo(template, Who.GATEWAY, Who.EVERYBODY, payload, retain, expiry, about)


def _command(name: str, payload: str, about: str, *, writes: Who = Who.PARTICIPANT) -> TopicInfo:
    return TopicInfo(f"{_OWN}/{name}", writes, Who.GATEWAY, payload, False, "as you set it", about)


def _private(name: str, payload: str, expiry: str, about: str, *, retain: bool = False) -> TopicInfo:
    return TopicInfo(f"{_OWN}/{name}", Who.GATEWAY, Who.PARTICIPANT, payload, retain, expiry, about)


TOPICS: tuple[TopicInfo, ...] = (
    _public(STATUS, "EngineStatus", "never", "Whether the market is reachable over MQTT; `offline` is its last will."),
    _public(_MARKET, "MarketNews", "never", "Whether a market runs or is suspended."),
    _public(f"{_MARKET}/price", "PriceNews", "a slot after the slot's end", "What was cleared last."),
    _public(_SLOT, "SlotNews", "end of the slot", "Where a slot stands: from here you learn which take orders."),
    _public(f"{_SLOT}/price", "PriceNews", "end of the slot", "What a slot cleared at."),
    _public(f"{_SLOT}/book", "BookNews", "the gate", "Depth of the book, without names."),
    _public(f"{_SLOT}/trades", "TradeNews", "end of the slot", "Each trade of a continuous market.", retain=False),
    _command("orders", "OrderRequest", "Enter an order; or several, as `OrdersRequest`."),
    _command("orders/amend", "AmendRequest", "Give an open order a new quantity or price."),
    _command("orders/cancel", "CancelRequest", "Withdraw orders."),
    _command("meters", "MeterReport", "Meter readings.", writes=Who.METERS),
    _command("envelope/receipts", "ReceiptRequest", "Answer an operating envelope."),
    TopicInfo(
        f"{_OWN}/status", Who.PARTICIPANT, Who.PARTICIPANT, "ParticipantStatus", True, "as you set it",
        "Whether you are there; make `offline` your last will.",
    ),
    _private("acks", "Ack", _DAY, "The answer to each request: durable when it says so."),
    TopicInfo(
        f"{_OWN}/meters/acks", Who.GATEWAY, Who.METERS, "Ack", False, _DAY,
        "The answer to meter readings, if their response topic asks for it here.",
    ),
    _private("orders/state", "OrderNews", _DAY, "What became of an order without your doing."),
    _private("results", "ResultNews", _DAY, "What you got of a slot that was cleared.", retain=True),
    _private("bills", "BillNews", _DAY, "A version of your bill for a slot.", retain=True),
    _private("terms", "TermsNews", "never", "Your own terms as they hold; they are set over HTTP.", retain=True),
    _private("envelope", "EnvelopeNews", "end of its last slot", "Limits of power that hold for you.", retain=True),
    _private("setpoints", "SetPoints", "as it says", "Set-points of your devices.", retain=True),
    _private("home", "Home", _DAY, "A summary for displays, such as Home Assistant.", retain=True),
    _private("disputes", "DisputeNews", _DAY, "What became of your dispute of a bill."),
    _private("membership", "MembershipNews", _DAY, "That you joined, left, or are in default."),
    TopicInfo(
        f"{_OWN}/check", Who.PARTICIPANT, Who.PARTICIPANT, "", False, "as you set it",
        "Yours to try the connection with; nobody else reads it.",
    ),
    TopicInfo(
        CHECK, Who.GATEWAY, Who.EVERYBODY, "", False, "as set",
        "Nothing is ever said here: `peerwatt mqtt check` tries whether somebody can.",
    ),
    TopicInfo(NETWORK, Who.GATEWAY, Who.GATEWAY, "NetworkNews", True, "two slots", "The network in the last slot."),
    TopicInfo(
        DEVICES + "/{device}", Who.GATEWAY, Who.GATEWAY, "DeviceTelemetry", True, "a few seconds",
        "What a device of the guardian measures, with its quality.",
    ),
    TopicInfo(SETTLED, Who.GATEWAY, Who.GATEWAY, "SettledNews", False, _DAY, "A version of a slot's settlement."),
)  # fmt: skip
"""Every topic. What the gateway alone reads is also for the operator's own account."""

COMMANDS = ("orders", "orders/amend", "orders/cancel", "meters", "envelope/receipts")
"""Topics of a participant that ask for something and are answered on its ``acks``."""


def market_topic(market: str, name: str = "") -> str:
    """A market's topic."""
    return f"{ROOT}/markets/{_level(market)}" + (f"/{name}" if name else "")


def slot_topic(market: str, slot: str, name: str = "") -> str:
    """A topic of a market's slot, which is named by its start."""
    return f"{ROOT}/markets/{_level(market)}/slots/{_level(slot)}" + (f"/{name}" if name else "")


def participant_topic(participant: str, name: str) -> str:
    """One of a participant's topics."""
    return f"{PARTICIPANTS}/{_level(participant)}/{name}"


def discovery_topic(participant: str) -> str:
    """Where Home Assistant looks for a building."""
    return f"{HOME_ASSISTANT}/device/{discovery_id(participant)}/config"


def discovery_id(participant: str) -> str:
    """A building's id in Home Assistant, of letters, digits, ``_`` and ``-``; no two participants have the same."""
    return IDENT + _level(participant).replace("_", "_-").replace(".", "__")


def device_topic(device: str) -> str:
    """Where a device's readings stand."""
    return f"{DEVICES}/{_level(device)}"


def device_discovery_topic(device: str) -> str:
    """Where Home Assistant looks for a device."""
    return f"{HOME_ASSISTANT}/device/{device_discovery_id(device)}/config"


def device_discovery_id(device: str) -> str:
    """A device's id in Home Assistant; it is no building's (`discovery_id`)."""
    return f"peerwattdevice_{_level(device)}"


def split_participant(topic: str) -> tuple[str, str] | None:
    """Participant and rest of one of a participant's topics; None for any other topic."""
    levels = topic.split("/", _PREFIX + 1)
    if len(levels) < _PREFIX + 2 or not topic.startswith(PARTICIPANTS + "/"):
        return None
    return levels[_PREFIX], levels[_PREFIX + 1]


def is_topic_name(text: str) -> bool:
    """Whether a name can stand as one level of a topic."""
    return bool(text) and not _BAD & set(text)


def _level(name: str) -> str:
    """A name as a level of a topic: one with ``/`` or a wildcard in it would reach what is not its own."""
    if not is_topic_name(name):
        raise ValueError(f"{name!r} cannot stand in a topic")
    return name
