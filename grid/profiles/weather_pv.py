"""PV yield from weather with pvlib, in the manner of PVWatts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from grid.profiles.axis import Axis
from grid.profiles.refs import WeatherPvRef

Float = NDArray[np.float64]

GAMMA_PER_K = -0.0047
"""Loss of DC power per kelvin of cell temperature, standard module of PVWatts 5."""

DC_TO_AC = 1.1
"""Module power over inverter power, PVWatts 5."""

INVERTER_EFFICIENCY = 0.96
"""Nominal efficiency of the inverter, PVWatts 5."""


@dataclass(frozen=True, slots=True)
class Weather:
    """Weather on intervals, shape (m,) each: irradiances [W/m2] (one of them may be None), air [degC], wind [m/s]."""

    ghi: Float | None
    dhi: Float | None
    dni: Float | None
    temp_c: Float
    wind_m_s: Float | None


def pv_yield_kwh(axis: Axis, weather: Weather, ref: WeatherPvRef) -> Float:
    """Energy per interval and kWp at the AC terminals [kWh/kWp], shape (m,), >= 0.

    Sun position at the middle of each interval (apparent elevation, refraction included); the missing irradiance from
    the other two; Hay-Davies transposition (Hay and Davies 1980); reflection of the beam by the physical model (De
    Soto et al. 2006, doi 10.1016/j.solener.2005.06.010); cell temperature after Faiman (2008, doi 10.1002/pip.813;
    1 m/s where no wind is given); DC power, losses and inverter of PVWatts 5 (Dobos 2014, NREL/TP-6A20-62641) with
    `GAMMA_PER_K`, `DC_TO_AC` and `INVERTER_EFFICIENCY`. Implementation: pvlib (Anderson et al. 2023, doi
    10.21105/joss.05994).
    """
    import pandas as pd
    import pvlib

    middle = (axis.edge_s[:-1] + axis.edge_s[1:]) // 2
    times = pd.DatetimeIndex(middle.astype("datetime64[s]")).tz_localize("UTC")
    sun = pvlib.solarposition.get_solarposition(times, ref.latitude, ref.longitude)
    zenith = sun["apparent_zenith"].to_numpy()
    azimuth = sun["azimuth"].to_numpy()
    ghi, dhi, dni = _complete(weather, zenith)
    extra = pvlib.irradiance.get_extra_radiation(times).to_numpy()
    plane = pvlib.irradiance.get_total_irradiance(
        ref.tilt_deg, ref.azimuth_deg, zenith, azimuth, dni, ghi, dhi, dni_extra=extra, model="haydavies"
    )
    angle = pvlib.irradiance.aoi(ref.tilt_deg, ref.azimuth_deg, zenith, azimuth)
    beam = np.nan_to_num(plane["poa_direct"] * pvlib.iam.physical(angle))
    irradiance = np.maximum(beam + np.nan_to_num(plane["poa_diffuse"]), 0.0)
    wind = np.ones_like(irradiance) if weather.wind_m_s is None else weather.wind_m_s
    cell = pvlib.temperature.faiman(irradiance, weather.temp_c, wind)
    dc_kw = pvlib.pvsystem.pvwatts_dc(irradiance, cell, 1.0, GAMMA_PER_K) * (1.0 - ref.losses_percent / 100.0)
    limit_kw = 1.0 / DC_TO_AC / INVERTER_EFFICIENCY
    ac_kw = pvlib.inverter.pvwatts(np.asarray(dc_kw), limit_kw, eta_inv_nom=INVERTER_EFFICIENCY)
    return np.asarray(np.nan_to_num(np.maximum(ac_kw, 0.0)) * (axis.length_s / 3600.0), dtype=np.float64)


def _complete(weather: Weather, zenith: Float) -> tuple[Float, Float, Float]:
    """GHI, DHI and DNI from at least two of them."""
    import pvlib

    up = np.maximum(np.cos(np.radians(zenith)), 0.0)
    if weather.dni is None:
        assert weather.ghi is not None
        assert weather.dhi is not None
        dni = pvlib.irradiance.dni(weather.ghi, weather.dhi, zenith)
        return weather.ghi, weather.dhi, np.nan_to_num(np.asarray(dni, dtype=np.float64))
    if weather.ghi is None:
        assert weather.dhi is not None
        return weather.dhi + weather.dni * up, weather.dhi, weather.dni
    dhi = np.maximum(weather.ghi - weather.dni * up, 0.0) if weather.dhi is None else weather.dhi
    return weather.ghi, dhi, weather.dni
