"""Laboratory instruments that speak SCPI: power analysers, grid simulators, PV simulators. The place of PyVISA.

``await ScpiInstrument.open(load_instrument("scpi-analyser"), "TCPIP0::192.0.2.7::5025::SOCKET")``; PyVISA is loaded
then and comes with the extra ``peerwatt[instruments]``.
"""

from __future__ import annotations

from hardware.scpi.description import InstrumentDescription, instruments, load_instrument, parse_instrument
from hardware.scpi.instrument import ScpiInstrument

__all__ = ["InstrumentDescription", "ScpiInstrument", "instruments", "load_instrument", "parse_instrument"]
