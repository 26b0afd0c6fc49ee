"""What a scenario asks of a profile: plain references, one per entry of its ``profiles``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["energy", "power", "reactive", "level", "price", "carbon", "temperature", "irradiance"]
Flow = Literal["load", "generation"]
Fill = Literal["none", "previous_day", "previous_week", "linear", "zero"]


@dataclass(frozen=True, slots=True)
class SeriesRef:
    """A time series: a column of a data set, of a file, or a constant (exactly one of the three).

    Parameters
    ----------
    kind
        What is wanted: ``energy`` [kWh per slot], ``power`` [mean kW], ``reactive`` [kvarh per slot, + absorbs],
        ``price`` [currency per kWh], ``carbon`` [kg per kWh], ``level`` (either of the last two), ``temperature``
        [degC], ``irradiance`` [W/m2]; the last five are means over a slot, never sums.
    flow
        The direction that comes out positive, for ``energy``, ``power`` and ``reactive``: ``load`` for consumption,
        ``generation`` for PV. ``energy`` is never negative in that direction, the other two may be.
    dataset, file, constant
        The source; ``file`` is relative to the scenario's folder.
    column, unit, sign
        The column, its unit, and the direction in which its values count as positive (default for data sets and
        constants: what the registry says, resp. ``flow``).
    time_column, time_zone, stamp
        Column of the time stamps (default: the Parquet index or the first column); zone of naive stamps; whether a
        stamp names the start or the end of its interval.
    fill
        How gaps are filled; ``none`` refuses them.
    repeat_year
        Use the source's one year for every year, by local month, day and time.
    skip_rows
        Lines of a CSV file above its header that are no part of the table.
    label
        Where it stands in the scenario, for error messages (``profiles.h01_load``).
    """

    kind: Kind
    flow: Flow = "load"
    dataset: str | None = None
    file: str | None = None
    constant: float | None = None
    column: str | None = None
    unit: str | None = None
    sign: Flow | None = None
    time_column: str | None = None
    time_zone: str | None = None
    stamp: Literal["start", "end"] = "start"
    fill: Fill = "none"
    repeat_year: bool = False
    skip_rows: int = 0
    label: str = ""

    def key(self) -> dict[str, Any]:
        """What the values depend on, for the cache: everything but the label."""
        return {k: v for k, v in asdict(self).items() if k != "label"}


@dataclass(frozen=True, slots=True)
class WeatherPvRef:
    """PV yield [kWh per kWp and slot] from weather: a data set's id, or a CSV or Parquet file.

    A file needs stamps with offset and two of the columns ``ghi_w_m2``, ``dhi_w_m2``, ``dni_w_m2``, and ``temp_c``;
    ``wind_speed_m_s`` is used where it is there. ``azimuth_deg`` 180 is south.
    """

    weather: str
    latitude: float
    longitude: float
    tilt_deg: float = 30.0
    azimuth_deg: float = 180.0
    losses_percent: float = 14.0
    repeat_year: bool = False
    label: str = ""

    def key(self) -> dict[str, Any]:
        """What the values depend on, for the cache: everything but the label."""
        return {k: v for k, v in asdict(self).items() if k != "label"}


Ref = SeriesRef | WeatherPvRef
