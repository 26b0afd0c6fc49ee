"""The register map of an emulated inverter, hybrid or battery as it leaves the factory: models, factors, nameplate."""

from __future__ import annotations

from hardware.emulator.device_settings import InverterSettings, StorageSettings
from hardware.emulator.image import ModelChoice, RegisterBlock, sunspec_image
from hardware.emulator.surroundings import NOMINAL_HZ, NOMINAL_V

_CURVE_POINTS = 4
_CURVES = 3
CONTROL_MODELS = (123, 124, 703, 704, 705, 706, 711, 712, 715, 802)
"""Models whose writable registers go back to the factory's values in a reboot."""


def inverter_models(settings: InverterSettings) -> tuple[int, ...]:
    """Models of an inverter, in the order of its map."""
    storage = isinstance(settings, StorageSettings)
    ac = (110 if settings.floats else 100) + settings.phases
    models = [1, ac, 120, 121, 122, 123]
    models += [124] if storage else []
    models += [160] if settings.pv_w or not storage else []
    models += [701, 702, 703, 704, 705, 706, 711, 712]
    models += [713] if storage else []
    models += [714, 715]
    models += [802] if storage else []
    return tuple(model for model in models if model == 1 or model not in settings.leave_out)


def inverter_image(settings: InverterSettings) -> RegisterBlock:
    """The registers of a device with these settings, measurements not yet in them."""
    block = sunspec_image([_choice(model, settings) for model in inverter_models(settings)], settings.base)
    for path, text in _texts(settings).items():
        if path in block:
            block.set_text(path, text)
    for path, exponent in _factors(settings).items():
        if path in block:
            block.set_unsigned(path, exponent & 0xFFFF)
    for values in (_nameplate(settings), _settings(settings), _capacity(settings), _controls(), _storage(settings)):
        for path, value in values.items():
            block.set(path, value)
    _curves(block)
    return block


def _choice(model: int, settings: InverterSettings) -> ModelChoice:
    strings = int(settings.pv_w > 0) + int(isinstance(settings, StorageSettings))
    if model == 160:
        return ModelChoice(model, repeats=strings)
    if model in {705, 706, 712}:
        return ModelChoice(model, {"NPt": _CURVE_POINTS, "NCrv": _CURVES})
    if model == 711:
        return ModelChoice(model, {"NCtl": _CURVES})
    if model == 714:
        return ModelChoice(model, {"NPrt": strings})
    return ModelChoice(model)


def _texts(settings: InverterSettings) -> dict[str, str]:
    ports = (["PV"] if settings.pv_w > 0 else []) + (["Battery"] if isinstance(settings, StorageSettings) else [])
    texts = {
        "1.Mn": settings.manufacturer,
        "1.Md": settings.model_name,
        "1.Vr": settings.firmware,
        "1.SN": settings.serial,
        "122.TmSrc": "RTC",
    }  # what the map does not have is left out by the caller
    for i, port in enumerate(ports):
        texts |= {f"160.module[{i}].IDStr": port, f"714.Prt[{i}].IDStr": port}
    return texts


def _factors(settings: InverterSettings) -> dict[str, int]:
    power = 0 if settings.va <= 30_000.0 else 1 if settings.va <= 300_000.0 else 2
    # Each model's factors by name; powers share one so that the largest fits into 15 bits.
    named = {
        "A_SF": -2 if settings.va <= 100_000.0 else 0, "V_SF": -1, "W_SF": power, "Hz_SF": -2, "VA_SF": power,
        "VAr_SF": power, "Var_SF": power, "PF_SF": -3, "WH_SF": 0, "DCA_SF": -2 if settings.va <= 100_000.0 else 0,
        "DCV_SF": -1, "DCW_SF": power, "Tmp_SF": -1, "WRtg_SF": power, "VARtg_SF": power, "VArRtg_SF": power,
        "ARtg_SF": -1, "PFRtg_SF": -2, "WHRtg_SF": 1, "AhrRtg_SF": 0, "MaxChaRte_SF": power, "MaxDisChaRte_SF": power,
        "WMax_SF": power, "VRef_SF": 0, "VRefOfs_SF": 0, "VMinMax_SF": 0, "VAMax_SF": power, "VArMax_SF": power,
        "WGra_SF": 0, "PFMin_SF": -2, "MaxRmpRte_SF": 0, "ECPNomHz_SF": 0, "VArAval_SF": power, "WAval_SF": power,
        "Ris_SF": 0, "WMaxLimPct_SF": -2, "OutPFSet_SF": -3, "VArPct_SF": -1, "WChaMax_SF": power,
        "WChaDisChaGra_SF": 0, "VAChaMax_SF": power, "MinRsvPct_SF": 0, "ChaState_SF": -1, "StorAval_SF": 0,
        "InBatV_SF": -1, "InOutWRte_SF": -2, "DCWH_SF": 0, "TotWh_SF": 0, "TotVarh_SF": 0, "S_SF": 0, "WSet_SF": 0,
        "WSetPct_SF": -1, "VarSet_SF": 0, "VarSetPct_SF": -1, "DeptRef_SF": -1, "RspTms_SF": 0, "Db_SF": -3,
        "K_SF": -3, "Pct_SF": -1, "SoC_SF": -1, "DoD_SF": -1, "SoH_SF": -1, "AHRtg_SF": 0, "WChaDisChaMax_SF": power,
        "DisChaRte_SF": 0, "CellV_SF": -3, "AMax_SF": -1,
    }  # fmt: skip
    found = {f"{model}.{name}": value for model in inverter_models(settings) for name, value in named.items()}
    capacity = settings.capacity_wh if isinstance(settings, StorageSettings) else 0.0
    energy = 0 if capacity <= 60_000.0 else 1 if capacity <= 600_000.0 else 3
    return (
        found
        | {"713.WH_SF": energy, "802.WHRtg_SF": energy, "120.WHRtg_SF": energy, "701.Hz_SF": -3}
        | {
            f"{model}.PF_SF": -1
            for model in (101, 103)  # in percent there
        }
    )


def _amps(settings: InverterSettings) -> float:
    return settings.va / (settings.phases * NOMINAL_V)


def _nameplate(settings: InverterSettings) -> dict[str, float]:
    var = 0.44 * settings.va
    values = {"120.DERTyp": 4.0, "120.WRtg": settings.rating_w, "120.VARtg": settings.va, "120.ARtg": _amps(settings)}
    values |= {f"120.VArRtgQ{q}": var if q < 3 else -var for q in (1, 2, 3, 4)}
    values |= {f"120.PFRtgQ{q}": 0.9 if q in {1, 2} else -0.9 for q in (1, 2, 3, 4)}
    if isinstance(settings, StorageSettings):
        values |= {
            "120.DERTyp": 82.0,
            "120.WHRtg": settings.capacity_wh,
            "120.MaxChaRte": settings.charge_w,
            "120.MaxDisChaRte": settings.discharge_w,
        }
    return values


def _settings(settings: InverterSettings) -> dict[str, float]:
    return {
        "1.DA": float(settings.unit),
        "160.N": float(int(settings.pv_w > 0) + int(isinstance(settings, StorageSettings))),
        "121.WMax": settings.rating_w,
        "121.VRef": NOMINAL_V,
        "121.VRefOfs": 0.0,
        "121.VMax": 1.1 * NOMINAL_V,
        "121.VMin": 0.85 * NOMINAL_V,
        "121.VAMax": settings.va,
        "121.ECPNomHz": NOMINAL_HZ,
        "121.WGra": min(100.0 * settings.ramp_w_per_s / settings.rating_w, 60_000.0),
    }


def _capacity(settings: InverterSettings) -> dict[str, float]:
    var = 0.44 * settings.va
    values = {
        "702.WMaxRtg": settings.rating_w, "702.VAMaxRtg": settings.va, "702.VarMaxInjRtg": var,
        "702.VarMaxAbsRtg": var, "702.VNomRtg": NOMINAL_V, "702.VMaxRtg": 1.1 * NOMINAL_V,
        "702.VMinRtg": 0.85 * NOMINAL_V, "702.AMaxRtg": _amps(settings), "702.NorOpCatRtg": 1.0,
        "702.AbnOpCatRtg": 2.0, "702.WMax": settings.rating_w, "702.VAMax": settings.va, "702.VarMaxInj": var,
        "702.VarMaxAbs": var, "702.VNom": NOMINAL_V, "702.AMax": _amps(settings),
        # MAX_W, FIXED_W, FIXED_VAR, FIXED_PF, VOLT_VAR, FREQ_WATT, WATT_VAR, VOLT_WATT
        "702.CtrlModes": float(sum(1 << bit for bit in (0, 1, 2, 3, 4, 5, 9, 10))),
        "703.ES": 1.0, "703.ESVHi": 105.0, "703.ESVLo": 91.7, "703.ESHzHi": 50.1, "703.ESHzLo": 47.5,
        "703.ESDlyTms": settings.service_delay_s, "703.ESDlyRemTms": 0.0,
    }  # fmt: skip
    if isinstance(settings, StorageSettings):
        for kind, watts in (("Cha", settings.charge_w), ("DisCha", settings.discharge_w)):
            values |= {f"702.W{kind}RteMaxRtg": watts, f"702.VA{kind}RteMaxRtg": watts, f"702.W{kind}RteMax": watts}
    return values


def _controls() -> dict[str, float]:
    values = dict.fromkeys(
        (
            "123.Conn_WinTms", "123.Conn_RvrtTms", "123.WMaxLimPct_WinTms", "123.WMaxLimPct_RvrtTms",
            "123.WMaxLimPct_RmpTms", "123.WMaxLim_Ena", "123.OutPFSet_WinTms", "123.OutPFSet_RvrtTms",
            "123.OutPFSet_RmpTms", "123.OutPFSet_Ena", "123.VArMaxPct", "123.VArPct_WinTms", "123.VArPct_RvrtTms",
            "123.VArPct_RmpTms", "123.VArPct_Ena", "704.AntiIslEna", "704.WRmp", "715.ControllerHb", "715.LocRemCtl",
            "715.DERHb", "715.AlarmReset",
        ),
        0.0,
    )  # fmt: skip
    values |= {"123.Conn": 1.0, "123.WMaxLimPct": 100.0, "123.OutPFSet": 1.0, "123.VArPct_Mod": 2.0, "715.OpCtl": 1.0}
    for stem in ("PFWInj", "PFWAbs", "WMaxLimPct", "WSet", "VarSet"):
        values |= dict.fromkeys(
            (f"704.{stem}Ena", f"704.{stem}EnaRvrt", f"704.{stem}RvrtTms", f"704.{stem}RvrtRem"), 0.0
        )
    for stem in ("PFWInj", "PFWInjRvrt", "PFWAbs", "PFWAbsRvrt"):
        values |= {f"704.{stem}.PF": 1.0, f"704.{stem}.Ext": 0.0}
    values |= {"704.WMaxLimPct": 100.0, "704.WMaxLimPctRvrt": 100.0, "704.WSetMod": 1.0, "704.VarSetMod": 4.0}
    for stem in ("WSet", "VarSet"):
        values |= dict.fromkeys((f"704.{stem}", f"704.{stem}Rvrt", f"704.{stem}Pct", f"704.{stem}PctRvrt"), 0.0)
    return values | {"704.VarSetPri": 0.0, "704.WRmpRef": 1.0}


def _storage(settings: InverterSettings) -> dict[str, float]:
    if not isinstance(settings, StorageSettings):
        return {}
    dc = settings.efficiency
    return {
        "124.WChaMax": settings.charge_w, "124.WChaGra": 100.0, "124.WDisChaGra": 100.0, "124.StorCtl_Mod": 0.0,
        "124.MinRsvPct": 100.0 * settings.min_soc, "124.OutWRte": 100.0, "124.InWRte": 100.0,
        "124.InOutWRte_WinTms": 0.0, "124.InOutWRte_RvrtTms": 0.0, "124.InOutWRte_RmpTms": 0.0, "124.ChaGriSet": 1.0,
        "713.WHRtg": settings.capacity_wh, "713.SoH": 100.0, "713.Sta": 0.0,
        "802.AHRtg": settings.capacity_wh / BATTERY_V, "802.WHRtg": settings.capacity_wh,
        "802.WChaRteMax": settings.charge_w * dc, "802.WDisChaRteMax": settings.discharge_w / dc,
        "802.SoCMax": 100.0 * settings.max_soc, "802.SoCMin": 100.0 * settings.min_soc, "802.SocRsvMax": 100.0,
        "802.SoCRsvMin": 100.0 * settings.min_soc, "802.SoH": 100.0, "802.NCyc": 0.0, "802.LocRemCtl": 0.0,
        "802.Hb": 0.0, "802.CtrlHb": 0.0, "802.AlmRst": 0.0, "802.Typ": 4.0, "802.State": 3.0, "802.Evt1": 0.0,
        "802.Evt2": 0.0, "802.EvtVnd1": 0.0, "802.EvtVnd2": 0.0, "802.ReqInvState": 0.0, "802.SetOp": 1.0,
        "802.SetInvState": 3.0,
    }  # fmt: skip


BATTERY_V = 400.0
"""DC voltage of an emulated battery [V]."""

PV_V = 600.0
"""DC voltage of an emulated PV array [V]."""

_SHAPES = {
    # VDE-AR-N 4105-like Q(U); P(U) from 1.09 to 1.10; Q(P) from half load on
    705: ("V", "Var", ((93.0, 44.0), (97.0, 0.0), (103.0, 0.0), (107.0, -44.0))),
    706: ("V", "W", ((0.0, 100.0), (109.0, 100.0), (110.0, 20.0), (115.0, 0.0))),
    712: ("W", "Var", ((0.0, 0.0), (50.0, 0.0), (90.0, -40.0), (100.0, -44.0))),
}


_IDLE = {"Ena": 0.0, "RvrtTms": 0.0, "RvrtRem": 0.0}


def _curves(block: RegisterBlock) -> None:
    """Three curves in each curve model: the first is the active one, the third is flat (does nothing)."""
    for model, (x, y, shape) in _SHAPES.items():
        values = {**_IDLE, "AdptCrvReq": 0.0, "AdptCrvRslt": 1.0, "RvrtCrv": 0.0}
        for curve in range(_CURVES):
            prefix = f"Crv[{curve}]."
            values |= {
                f"{prefix}ActPt": 4.0,
                f"{prefix}DeptRef": 0.0 if model == 706 else 1.0,
                f"{prefix}Pri": 1.0,
                f"{prefix}VRef": 100.0,
                f"{prefix}VRefAutoEna": 0.0,
                f"{prefix}RspTms": 1.0,
                f"{prefix}ReadOnly": float(curve == 0),
            }
            flat = 100.0 if model == 706 else 0.0
            for i, (at, value) in enumerate(shape):
                values |= {f"{prefix}Pt[{i}].{x}": at, f"{prefix}Pt[{i}].{y}": flat if curve == 2 else value}
        _fill(block, model, values)
    values = {**_IDLE, "AdptCtlReq": 0.0, "AdptCtlRslt": 1.0, "RvrtCtl": 0.0}
    for ctl in range(_CURVES):
        # 0.2 Hz dead band, then 5 % of frequency for the whole power (VDE-AR-N 4105: 40 % per Hz)
        droop = {"DbOf": 0.2, "DbUf": 0.2, "KOf": 0.05, "KUf": 0.05, "RspTms": 1.0, "ReadOnly": float(ctl == 0)}
        values |= {f"Ctl[{ctl}].{name}": value for name, value in droop.items()}
    _fill(block, 711, values)


def _fill(block: RegisterBlock, model: int, values: dict[str, float]) -> None:
    for name, value in values.items():
        block.set(f"{model}.{name}", value)
