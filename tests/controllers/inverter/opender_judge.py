"""EPRI's OpenDER asked for settled states: the judge of the functions of IEEE 1547-2018.

OpenDER speaks generator sign; what comes back from here is load convention, turned by hand, so that a sign error in
`steady_state` shows.
"""

import numpy as np
import pytest

opender = pytest.importorskip("opender")

KVA = 100.0
CATEGORIES = {"a": ("CAT_A", 44_000.0, 25_000.0), "b": ("CAT_B", 44_000.0, 44_000.0)}
# Trips and ride-through are not what is compared: times so long that no trip comes in a settled state.
NO_TRIPS = {f"{kind}_TRIP_T": 1e12 for kind in ("OV1", "OV2", "UV1", "UV2", "OF1", "OF2", "UF1", "UF2")}


def der(category, *, kw=KVA, **settings):
    """A photovoltaic inverter of OpenDER, 100 kVA."""
    name, inject, absorb = CATEGORIES[category]
    base = {"NP_P_MAX": kw * 1000.0, "NP_VA_MAX": KVA * 1000.0, "NP_NORMAL_OP_CAT": name, **NO_TRIPS}
    base |= {"NP_Q_MAX_INJ": inject, "NP_Q_MAX_ABS": absorb, "NP_APPARENT_POWER_CHARGE_MAX": KVA * 1000.0}
    base |= {"NP_P_MAX_CHARGE": kw * 1000.0}
    return opender.DER_PV(opender.DERCommonFileFormat(**base | settings))


def settled(device, v, f, kw, theta=None, *, nominal=60.0):
    """Load-signed (P, Q) arrays of points (v, f, kw), with a memory of the nominal frequency before each point."""
    out = []
    for point, (volts, hertz, power) in enumerate(zip(v, f, kw, strict=True)):
        volts = [float(one) for one in volts] if np.ndim(volts) else float(volts)
        angles = None if theta is None else [float(one) for one in theta[point]]
        if hertz != nominal:
            device.update_der_input(v_pu=volts, theta=angles, f=nominal, p_dc_kw=float(power))
            device.run()
        device.update_der_input(v_pu=volts, theta=angles, f=float(hertz), p_dc_kw=float(power))
        device.run()
        assert device.der_status in {"Continuous Operation", "Mandatory Operation"}, (device.der_status, volts, hertz)
        out.append((-device.p_out_kw, -device.q_out_kvar))
    return np.array(out).T
