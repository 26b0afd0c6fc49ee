"""The wire's models: exact both ways, and their JSON schemas say what is accepted, no more and no less."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from peerwatt import wire
from peerwatt.wire import (
    AmendIn,
    BatchIn,
    ContractOffer,
    In,
    KeyIn,
    MeasurementsIn,
    OrderIn,
    Out,
    Page,
    SlotNames,
    TermsIn,
    time_text,
    time_us,
)
from tests.effort import effort

MODELS: dict[str, Any] = {
    name: model
    for name in wire.__all__
    if isinstance(model := getattr(wire, name), type) and issubclass(model, msgspec.Struct)
    if model not in (In, Out, Page)
}
INPUTS = {name: model for name, model in MODELS.items() if issubclass(model, In)}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ORDER = {"slot": "2016-06-01T12:00:00Z", "side": "buy", "e_wh": 750, "price_u": 250_000}


def _schema(model: Any) -> dict[str, Any]:
    (reference,), definitions = msgspec.json.schema_components([model], ref_template="#/$defs/{name}")
    return {**reference, "$defs": definitions}


def _definition(model: Any) -> dict[str, Any]:
    schema: dict[str, Any] = _schema(model)["$defs"][model.__name__]
    return schema


# --- time -------------------------------------------------------------------------------------------------------------


@given(st.integers(-(10**15), 4 * 10**15))
def test_times_are_exact(us: int) -> None:
    text = time_text(us)
    assert time_us(text) == us
    assert datetime.fromisoformat(text) == EPOCH + timedelta(microseconds=us)


@given(st.integers(0, 4 * 10**9), st.sampled_from([60, 300, 900, 3600, 86_400]), st.integers(-100, 10**5))
def test_slots_are_exact(start_s: int, length_s: int, slot: int) -> None:
    names = SlotNames(start_s * 1_000_000, length_s)
    text = names.text(slot)
    assert names.index(text) == slot
    assert names.containing(time_us(text)) == slot
    assert names.containing(time_us(names.end_text(slot)) - 1) == slot
    assert names.index(names.end_text(slot)) == slot + 1


def test_no_slot_starts_there() -> None:
    names = SlotNames(time_us("2016-06-01T00:00:00Z"), 900)
    for text in ("2016-06-01T00:00:01Z", "2016-06-01T00:14:59Z"):
        with pytest.raises(ValueError, match="no slot starts"):
            names.index(text)
    for text in ("2016-02-30T00:00:00Z", "soon", "2016-06-01T00:00:00", "2016-06-01T00:00:00.0000001Z"):
        with pytest.raises(ValueError):
            names.index(text)


def test_offsets_are_understood() -> None:
    assert time_us("2016-06-01T14:00:00.5+02:00") == time_us("2016-06-01T12:00:00.500000Z")


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_field_says_what_it_is(name: str) -> None:
    schema = _schema(MODELS[name])
    definition = schema["$defs"][name]
    assert definition["description"]
    for field, what in definition["properties"].items():
        assert any("description" in part for part in (what, *what.get("anyOf", ()))), field
        for example in what.get("examples", ()):
            Draft202012Validator({**what, "$defs": schema["$defs"]}).validate(example)


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_refuse_what_they_do_not_know(name: str) -> None:
    assert _definition(INPUTS[name])["additionalProperties"] is False
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"no_such_field": 1}', type=INPUTS[name])


def test_answers_let_newer_servers_say_more() -> None:
    head = b'{"seq": 1, "digest": "' + b"0" * 64 + b'", "signature": "later"}'
    assert msgspec.json.decode(head, type=wire.AuditHeadOut).seq == 1


SIZES = st.one_of(
    st.integers(-2, 2),
    st.sampled_from([10**12, 10**12 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1]),
    st.sampled_from([1.5, True, "1", None]),
)
SLOTS = st.sampled_from(
    ["2016-06-01T12:00:00Z", "2016-06-01T12:00:00Z\n", "2016-06-01T12:00:00+00:00", "2016-13-01T12:00:00Z", "", 3, None,
     "2016-06-01t12:00:00z", "٢٠١٦-06-01T12:00:00Z", "2016-06-01T12:00:00.5Z"]
)  # fmt: skip
TEXTS = st.sampled_from(["", "a", "a" * 64, "a" * 65, "a\n", "ä", "~ ", "\x7f", 1, None])
NAMES = st.sampled_from(["house-07", "House", "", "-a", "a" * 80, "a" * 81, "a\n", "a b", None, 0])
FLAGS = st.one_of(st.lists(st.sampled_from(["ioc", "fok", "aon", "block", "market", "gtc", 1]), max_size=6), st.none())
NEAR_ORDERS = st.fixed_dictionaries(
    {"slot": SLOTS, "side": st.sampled_from(["buy", "sell", "Buy", 1]), "e_wh": SIZES, "price_u": SIZES},
    optional={"flags": FLAGS, "ref": TEXTS, "participant": NAMES, "extra": st.just(1)},
)


def _accepts(model: Any, value: object) -> bool:
    try:
        msgspec.json.decode(msgspec.json.encode(value), type=model)
    except msgspec.ValidationError:
        return False
    return True


@settings(max_examples=effort(150, everyday=30), deadline=None)
@given(NEAR_ORDERS)
def test_the_schema_of_an_order_is_what_is_accepted(order: dict[str, Any]) -> None:
    assert _accepts(OrderIn, order) == Draft202012Validator(_schema(OrderIn)).is_valid(order)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_one_change_to_a_good_order(data: st.DataObject) -> None:
    """Near the edge: everything good but one field."""
    field, values = data.draw(
        st.sampled_from(
            [
                ("slot", SLOTS),
                ("e_wh", SIZES),
                ("price_u", SIZES),
                ("flags", FLAGS),
                ("ref", TEXTS),
                ("participant", NAMES),
            ]
        )
    )
    order = {**ORDER, field: data.draw(values)}
    assert _accepts(OrderIn, order) == Draft202012Validator(_schema(OrderIn)).is_valid(order)


def test_the_bounds_of_an_order() -> None:
    for e_wh, good in ((0, False), (1, True), (10**12, True), (10**12 + 1, False), (-1, False)):
        assert _accepts(OrderIn, {**ORDER, "e_wh": e_wh}) is good
    for price_u, good in ((2**63 - 1, True), (2**63, False), (-(2**63), True), (-(2**63) - 1, False)):
        assert _accepts(OrderIn, {**ORDER, "price_u": price_u}) is good
    one = {name: value for name, value in ORDER.items() if name != "participant"}
    for n, good in ((0, False), (1, True), (1000, True), (1001, False)):
        assert _accepts(BatchIn, {"orders": [one] * n}) is good
    assert not _accepts(BatchIn, {"orders": [{**one, "participant": "house-07"}]})
    assert not _accepts(OrderIn, {**ORDER, "flags": ["ioc", "ioc"]})
    reading = {"participant": "h", "slot": ORDER["slot"], "import_wh": 1, "export_wh": 0}
    for n, good in ((0, False), (1, True), (10_000, True), (10_001, False)):
        assert _accepts(MeasurementsIn, {"readings": [reading] * n}) is good
    assert not _accepts(MeasurementsIn, {"readings": [{**reading, "quality": "substituted"}]})


def test_what_needs_one_of_two() -> None:
    assert not _accepts(AmendIn, {})
    assert not _accepts(AmendIn, {"e_wh": None})
    assert _accepts(AmendIn, {"price_u": -1})
    offer = {"with": "house-08", "role": "seller", "from": ORDER["slot"], "to": ORDER["slot"]}
    assert not _accepts(ContractOffer, offer)
    assert not _accepts(ContractOffer, {**offer, "share_ppm": 1, "volume_wh": 1})
    assert _accepts(ContractOffer, {**offer, "share_ppm": 1})


def _of(kind: Any) -> st.SearchStrategy[Any]:
    """Values that a field of this JSON schema may have."""
    if "$ref" in kind:
        return st.nothing()
    if "anyOf" in kind:
        return st.one_of([_of(one) for one in kind["anyOf"]])
    if "enum" in kind:
        return st.sampled_from(kind["enum"])
    if kind.get("type") == "null":
        return st.none()
    if kind.get("type") == "integer":
        return st.integers(kind.get("minimum", kind.get("exclusiveMinimum", -1) + 1), kind.get("maximum", 2**63 - 1))
    if kind.get("type") == "string" and "pattern" in kind:
        strategy = st.from_regex(kind["pattern"], fullmatch=True)
        return strategy.filter(lambda s: kind.get("minLength", 0) <= len(s) <= kind.get("maxLength", 99))
    return st.nothing()


@settings(max_examples=effort(100, everyday=20), deadline=None)
@given(
    st.fixed_dictionaries(
        {name: _of(what) for name, what in _definition(OrderIn)["properties"].items() if name not in ("flags", "ref")}
    ),
    st.permutations(["block", "aon", "ioc", "fok", "market"]).map(lambda flags: flags[:2]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=64),
)
def test_orders_come_through_unchanged(fields: dict[str, Any], flags: list[str], ref: str) -> None:
    sent = OrderIn(**fields, flags=tuple(flags), ref=ref)  # type: ignore[arg-type]
    assert msgspec.json.decode(msgspec.json.encode(sent), type=OrderIn) == sent


def test_what_python_cannot_name_is_named_on_the_wire() -> None:
    offer = ContractOffer(
        with_="house-08", role="buyer", from_="2016-06-01T12:00:00Z", to="2016-07-01T12:00:00Z", volume_wh=5
    )
    assert msgspec.to_builtins(offer) == {
        "with": "house-08",
        "role": "buyer",
        "from": "2016-06-01T12:00:00Z",
        "to": "2016-07-01T12:00:00Z",
        "volume_wh": 5,
    }
    assert msgspec.to_builtins(TermsIn()) == {}
    assert msgspec.to_builtins(KeyIn()) == {}
