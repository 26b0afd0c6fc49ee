"""The supervisor's words as controls of devices (`hardware.driver.CONTROLS`): commands and safe states. Pure."""

from __future__ import annotations

from controllers.microgrid.image import Command, Do
from controllers.microgrid.ledger import SWITCH
from controllers.microgrid.site import W_PER_KW

NOMINAL_V = 230.0
"""Nominal voltage to neutral [V]."""

URGENT = frozenset({Do.OPEN, Do.HALT, Do.SHED})
"""Commands that make things safer whatever else is known: they wait for nobody."""

HALT, FOLLOW, FORM, START = 0.0, 1.0, 2.0, 3.0
"""Values of the control ``source_mode``."""
OFF, ON, HOLD = 0.0, 1.0, 2.0
"""Values of the controls ``closed`` and ``load_on``."""

Setting = tuple[str, float]
"""A control and its value."""

_PLAIN = {
    Do.OPEN: ("closed", OFF),
    Do.CLOSE: ("closed", ON),
    Do.START: ("source_mode", START),
    Do.HALT: ("source_mode", HALT),
    Do.SHED: ("load_on", OFF),
    Do.RESTORE: ("load_on", ON),
}


def settings_of(command: Command, rating_kw: float, nominal_hz: float, *, stores: bool = False) -> tuple[Setting, ...]:
    """What has to be written for a command, in this order.

    Parameters
    ----------
    command
        The command.
    rating_kw
        Rating of the source that it is for.
    nominal_hz
        For droops.
    stores
        Whether the source has a store: it starts at rest, whatever it was told before it stood still.

    Raises
    ------
    ValueError
        If a command that needs a value has none.
    """
    if command.do is Do.START and stores:
        return (("power_w", 0.0), _PLAIN[command.do])
    if command.do in _PLAIN:
        return (_PLAIN[command.do],)
    if command.value is None:
        raise ValueError(f"{command.do} {command.device} without a value")
    value = command.value
    if command.do is Do.FORM:
        return (("reference_hz", value), ("source_mode", FORM))
    if command.do is Do.FOLLOW:
        return (("source_mode", FOLLOW), ("power_w", value * W_PER_KW))
    if command.do is Do.POWER:
        return (("power_w", value * W_PER_KW),)
    if command.do is Do.REFERENCE:
        return (("reference_hz", value),)
    if command.do is Do.VOLTAGE:
        return (("reference_v", value * NOMINAL_V),)
    return (("droop", value * rating_kw / nominal_hz),)


def fallbacks_of(device: str, safe: str, *, is_load: bool) -> tuple[Setting, ...]:
    """The fallbacks that a written safe state consists of; what decides comes last.

    Raises
    ------
    ValueError
        If the device has no such safe state.
    """
    word, _, value = safe.partition(" ")
    if device == SWITCH and word in ("open", "hold"):
        return (("closed", OFF if word == "open" else HOLD),)
    if is_load and word in ("shed", "hold"):
        return (("load_on", OFF if word == "shed" else HOLD),)
    if device != SWITCH and not is_load:
        if word == "halt":
            return (("source_mode", HALT),)
        if word == "follow":
            return (("power_w", float(value) * W_PER_KW), ("source_mode", FOLLOW))
        if word == "form":
            return (("reference_hz", float(value)), ("source_mode", FORM))
    raise ValueError(f"{device} has no safe state {safe!r}")
