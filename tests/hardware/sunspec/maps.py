"""Register maps for tests, built point by point, and a device that is nothing but such a map."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from hardware.driver import Group, Sample, Span, Step
from hardware.sunspec import SunSpecDriver, discover
from hardware.sunspec.codec import encode, not_implemented
from hardware.sunspec.definitions import ModelLayout

Values = Mapping[str, int | float | str]
COMMON: Values = {"Mn": "Maker", "Md": "Model", "SN": "0815", "Vr": "1.0"}


@functools.cache
def layout_of(model: int, counts: tuple[tuple[str, int], ...], repeats: int) -> ModelLayout:
    return ModelLayout.of(model, dict(counts), repeats=repeats)


def model_words(model: int, values: Values, *, counts: Mapping[str, int] | None = None, repeats: int = 0) -> list[int]:
    """One model; points without a value are not implemented."""
    layout = layout_of(model, tuple((counts or {}).items()), repeats)
    words = [0] * layout.words
    for point in layout:
        value = values.get(point.path)
        coded = not_implemented(point.type, point.size)
        if value is not None:
            coded = encode(point.type, value, point.path, size=point.size)
        words[point.offset : point.offset + point.size] = coded
    words[:2] = layout.start_words()
    for path in values:
        assert path in layout, path
    return words


class MapDevice:
    """A device that answers from a list of words. ``max_registers`` and ``refuse`` make it awkward."""

    def __init__(self, *models: list[int], base: int = 40000, end: tuple[int, ...] = (0xFFFF, 0)) -> None:
        self.base = base
        self.models = {words[0]: base + 2 + sum(map(len, models[:i])) for i, words in reversed([*enumerate(models)])}
        content = [0x5375, 0x6E53, *[word for words in models for word in words], *end]
        self.words = dict(enumerate(content, start=base))
        self.max_registers = 125
        self.strict: list[tuple[int, int]] = []
        self.asked: list[Span] = []
        self.now_s = 100.0

    async def read(self, span: Span) -> Sample:
        return self.sample(span)

    def sample(self, span: Span) -> Sample:
        self.asked.append(span)
        self.now_s += 0.001
        places = range(span.address, span.address + span.count)
        problem, words = "", tuple(map(self.words.get, places))
        if span.count > self.max_registers:
            problem = "exception 3 (value refused)"
        elif None in words:
            problem = "exception 2 (no such register)"
        elif self.strict and not any(low <= places[0] and places[-1] < high for low, high in self.strict):
            problem = "exception 2 (crosses a block)"
        return Sample(span, None if problem else words, self.now_s, self.now_s + 0.0005, len(self.asked), problem)

    def address(self, model: int, path: str, counts: Mapping[str, int] | None = None, repeats: int = 0) -> int:
        return self.models[model] + layout_of(model, tuple((counts or {}).items()), repeats)[path].offset

    def put(self, model: int, path: str, *words: int) -> None:
        at = self.address(model, path)
        self.words.update(enumerate(words, start=at))

    def samples(self, driver: SunSpecDriver, *groups: Group) -> dict[Span, Sample]:
        spans = [span for group in groups or (Group.FAST, Group.SLOW) for span in driver.spans(group)]
        return {span: self.sample(span) for span in spans}

    def carry_out(self, steps: tuple[Step, ...]) -> list[str]:
        """Write and read back every step; the purposes in order."""
        for step in steps:
            assert step.frame.function == 16 or len(step.frame.words) == 1
            self.words.update(enumerate(step.frame.words, start=step.frame.address))
            words = self.sample(step.check).words
            assert words is not None
            assert step.confirmed(words)
        return [step.purpose for step in steps]


INVERTER_103: Values = {
    "A": 2174, "AphA": 725, "AphB": 725, "AphC": 724, "A_SF": -2, "PhVphA": 2301, "PhVphB": 2299, "PhVphC": 2305,
    "V_SF": -1, "W": 5000, "W_SF": 0, "Hz": 5002, "Hz_SF": -2, "VA": 5010, "VA_SF": 0, "VAr": -300, "VAr_SF": 0,
    "PF": 998, "PF_SF": -1, "WH": 1234567, "WH_SF": 0, "DCW": 5150, "DCW_SF": 0, "TmpCab": 415, "Tmp_SF": -1,
    "St": 4, "Evt1": 0,
}  # fmt: skip
NAMEPLATE_120: Values = {
    "DERTyp": 4, "WRtg": 1000, "WRtg_SF": 1, "VARtg": 1000, "VARtg_SF": 1, "VArRtgQ1": 600, "VArRtgQ4": -600,
    "VArRtg_SF": 1, "ARtg": 435, "ARtg_SF": -1,
}  # fmt: skip
SETTINGS_121: Values = {"WMax": 8000, "WMax_SF": 0}
CONTROLS_123: Values = {
    "Conn_WinTms": 0, "Conn_RvrtTms": 0, "Conn": 1, "WMaxLimPct": 10000, "WMaxLimPct_WinTms": 30,
    "WMaxLimPct_RvrtTms": 0, "WMaxLim_Ena": 0, "WMaxLimPct_SF": -2, "OutPFSet_SF": -2,
}  # fmt: skip
STORAGE_124: Values = {
    "WChaMax": 5000, "WChaMax_SF": 0, "StorCtl_Mod": 0, "ChaState": 5630, "ChaState_SF": -2, "OutWRte": 10000,
    "InWRte": 10000, "InOutWRte_SF": -2, "InOutWRte_RvrtTms": 0, "ChaGriSet": 1,
}  # fmt: skip
METER_203: Values = {
    "A": 30, "A_SF": -1, "PhVphA": 230, "V_SF": 0, "Hz": 500, "Hz_SF": -1, "W": 700, "WphA": 200, "WphB": 200,
    "WphC": 300, "W_SF": 0, "VAR": 120, "VAR_SF": 0, "TotWhExp": 1000, "TotWhImp": 250000, "TotWh_SF": 0, "Evt": 0,
}  # fmt: skip
DER_701: Values = {
    "ACType": 2, "InvSt": 3, "ConnSt": 1, "Alrm": 0, "W": -3000, "VA": 3100, "Var": 500, "PF": -968, "A": 135,
    "Hz": 49980, "TotWhInj": 7_000_000, "TotWhAbs": 8_000_000, "TmpCab": 31, "WL1": -1000, "WL2": -1000, "WL3": -1000,
    "VL1": 2310, "VL2": 2311, "VL3": 2312, "A_SF": -1, "V_SF": -1, "Hz_SF": -3, "W_SF": 0, "PF_SF": -3, "VA_SF": 0,
    "Var_SF": 0, "TotWh_SF": 0, "Tmp_SF": 0,
}  # fmt: skip
CAPACITY_702: Values = {
    "WMaxRtg": 10000, "VAMaxRtg": 11000, "VarMaxInjRtg": 6000, "WChaRteMaxRtg": 5000, "WDisChaRteMaxRtg": 5500,
    "AMaxRtg": 16, "WMax": 8000, "W_SF": 0, "VA_SF": 0, "Var_SF": 0, "A_SF": 0,
}  # fmt: skip
CONTROL_704: Values = {
    "WMaxLimPctEna": 0, "WMaxLimPct": 1000, "WMaxLimPctRvrt": 1000, "WMaxLimPctEnaRvrt": 0, "WMaxLimPctRvrtTms": 0,
    "WMaxLimPctRvrtRem": 0, "WSetEna": 0, "WSetMod": 0, "WSet": 0, "WSetRvrt": 0, "WSetPct": 0, "WSetPctRvrt": 0,
    "WSetEnaRvrt": 0, "WSetRvrtTms": 0, "WSetRvrtRem": 0, "WMaxLimPct_SF": -1, "WSet_SF": 1, "WSetPct_SF": 0,
}  # fmt: skip
STORAGE_713: Values = {"WHRtg": 1000, "WHAvail": 563, "SoC": 563, "SoH": 990, "Sta": 0, "WH_SF": 1, "Pct_SF": -1}
HEARTBEAT_715: Values = {"LocRemCtl": 0, "DERHb": 77, "ControllerHb": 0, "AlarmReset": 0, "OpCtl": 1}
PORTS_714: Values = {
    "NPrt": 2, "DCW": 3100, "DCW_SF": 0, "Prt[0].PrtTyp": 0, "Prt[0].DCW": 5200, "Prt[1].PrtTyp": 1,
    "Prt[1].DCW": -2100,
}  # fmt: skip


def old_inverter(**changes: Values) -> MapDevice:
    """Models 1, 103, 120, 121, 123, 124."""
    models = {103: INVERTER_103, 120: NAMEPLATE_120, 121: SETTINGS_121, 123: CONTROLS_123, 124: STORAGE_124}
    return MapDevice(
        model_words(1, COMMON),
        *[model_words(model, {**values, **changes.get(f"m{model}", {})}) for model, values in models.items()],
    )


def new_storage() -> MapDevice:
    """Models 1, 701, 702, 704, 713, 714, 715."""
    models = {701: DER_701, 702: CAPACITY_702, 704: CONTROL_704, 713: STORAGE_713, 715: HEARTBEAT_715}
    return MapDevice(
        model_words(1, COMMON),
        *[model_words(model, values) for model, values in models.items()],
        model_words(714, PORTS_714, counts={"NPrt": 2}),
    )


async def met(device: MapDevice, **options: int) -> SunSpecDriver:
    return await discover(device.read, **options)
