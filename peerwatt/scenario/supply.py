"""Series and supply contracts: profiles, price files, tariffs, network charges, levies."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from peerwatt.scenario.base import Clock, Model, Moment, NotNegative, Percent, Price, Weekday

Fill = Literal["none", "previous_day", "previous_week", "linear", "zero"]
Stamp = Literal["start", "end"]
Sign = Literal["load", "generation"]
SkipRows = Annotated[int, Field(ge=0, le=10_000)]

EVERY_DAY: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class Series(Model):
    """A time series: a column of a shipped data set, of a CSV or Parquet file, or a constant. Exactly one of them."""

    dataset: str | None = Field(None, description="shipped data set, see `docs/data.md`; needs `column`")
    file: str | None = Field(None, description="CSV or Parquet file, relative to the scenario's file")
    constant: float | None = Field(None, description="the same value in every slot, in `unit`")
    column: str | None = Field(None, description="column of the data set or file")
    unit: str | None = Field(
        None, description="e.g. kWh, Wh, kW, W, kvarh, EUR/MWh, ct/kWh, g/kWh; needed for a file or a constant"
    )
    sign: Sign | None = Field(
        None, description="which way a positive value flows; needed for energy and power of a file"
    )
    time_column: str | None = Field(
        None, description="column with the time stamps; default: the first column, or the Parquet index"
    )
    time_zone: str | None = Field(None, description="IANA zone of time stamps without offset")
    stamp: Stamp = Field("start", description="whether a stamp names the interval's start or its end")
    fill: Fill = Field("none", description="how gaps are filled; `none` refuses them")
    repeat_year: bool = Field(False, description="use the file's one year for every year, by local month, day and time")
    skip_rows: SkipRows = Field(0, description="lines of a CSV above its header that are no part of the table")

    @model_validator(mode="after")
    def _one_source(self) -> Series:
        if sum(x is not None for x in (self.dataset, self.file, self.constant)) != 1:
            raise ValueError("name exactly one of dataset, file, constant")
        if self.constant is None and self.column is None:
            raise ValueError("name the column of the data set or file: column")
        if self.dataset is None and self.unit is None:
            raise ValueError("say what the numbers are: unit, e.g. kWh, kW, EUR/MWh, g/kWh")
        return self


class WeatherPv(Model):
    """PV yield from weather by pvlib (PVWatts) [kWh per kWp]."""

    weather: str = Field(description="shipped weather data set (e.g. weather_aachen_2021) or a CSV/Parquet file")
    latitude: Annotated[float, Field(ge=-90, le=90, description="degrees, north positive")]
    longitude: Annotated[float, Field(ge=-180, le=180, description="degrees, east positive")]
    tilt_deg: Annotated[float, Field(ge=0, le=90)] = Field(30.0, description="0 = flat, 90 = upright")
    azimuth_deg: Annotated[float, Field(ge=0, lt=360)] = Field(180.0, description="180 = south, 90 = east")
    losses_percent: Annotated[float, Field(ge=0, lt=100)] = Field(14.0, description="system losses in PVWatts")
    repeat_year: bool = Field(False, description="use the one year of weather for every year")


def _profile_kind(value: Any) -> str:
    weather = "weather" in value if isinstance(value, dict) else isinstance(value, WeatherPv)
    return "as:weather" if weather else "as:series"


Profile = Annotated[
    Annotated[Series, Tag("as:series")] | Annotated[WeatherPv, Tag("as:weather")],
    Discriminator(_profile_kind),
]
"""An entry of ``profiles``: a series, or PV from weather (the one with the key ``weather``)."""


class TariffBand(Model):
    """One band of a time-of-use tariff, in local wall-clock time; the first band that matches wins."""

    start: Clock = Field("00:00", description="first minute of the band, local wall clock")
    end: Clock = Field("24:00", description="end of the band; an end before the start lies on the next day")
    days: tuple[Weekday, ...] = Field(EVERY_DAY, description="days of the week on which it starts")
    months: tuple[Annotated[int, Field(ge=1, le=12)], ...] = Field(
        tuple(range(1, 13)), description="months in which it starts, 1 = January"
    )
    price_per_kwh: Price = Field(description="price inside the band, currency per kWh")


class Tariff(Model):
    """A price per kWh over time: flat, time-of-use, or a series (plus a markup). Exactly one of them."""

    flat_per_kwh: Price | None = Field(None, description="one price at all times, currency per kWh")
    default_per_kwh: Price | None = Field(None, description="price outside all bands of a time-of-use tariff")
    bands: tuple[TariffBand, ...] = Field((), description="bands of a time-of-use tariff; need default_per_kwh")
    series: Series | None = Field(None, description="a price over time, e.g. the day-ahead market")
    markup_per_kwh: Price = Field(0.0, description="added to a series, currency per kWh")

    @model_validator(mode="after")
    def _one_kind(self) -> Tariff:
        kinds = (self.flat_per_kwh is not None, self.default_per_kwh is not None, self.series is not None)
        if self.bands and self.default_per_kwh is None:
            raise ValueError("bands need default_per_kwh, the price outside them")
        if sum(kinds) != 1:
            raise ValueError("name exactly one of flat_per_kwh, default_per_kwh (with bands), series")
        if self.markup_per_kwh and self.series is None:
            raise ValueError("markup_per_kwh is added to a series; put it into the price itself")
        return self


class NetworkCharges(Model):
    """What the network costs a connection point, by level (docs/settlement.md)."""

    full_per_kwh: NotNegative = Field(0.0, description="per kWh of import that crosses all levels")
    local_per_kwh: NotNegative | None = Field(None, description="per kWh of local delivery; default: the full charge")
    export_per_kwh: NotNegative = Field(0.0, description="per kWh of export beyond the local level")
    local_export_per_kwh: NotNegative = Field(0.0, description="per kWh of export delivered locally")
    fixed_per_day: NotNegative = Field(0.0, description="standing charge, currency per day")
    demand_per_kw_month: NotNegative = Field(0.0, description="per kW of the billing month's highest import")


class ContractTerms(Model):
    """The terms of a supply contract over one stretch of time."""

    valid_from: Moment | None = Field(None, description="when they begin; default: the start of the run")
    retail: Tariff = Field(description="price of energy from the retailer, without network charges and taxes")
    feed_in: Tariff = Field(Tariff(flat_per_kwh=0.0), description="what the retailer pays for energy fed in")
    network: NetworkCharges = Field(NetworkCharges(), description="network charges")
    levies_per_kwh: dict[str, NotNegative] = Field(
        default_factory=dict, description="taxes and levies per kWh of import, by name"
    )
    vat_percent: Percent = Field(0.0, description="tax on the invoice's taxable lines")


class Contract(Model):
    """A supply contract: its terms in order of validity."""

    supplier: str | None = Field(
        None,
        description="who supplies under it; where contracts name several, they compete in the book (backstop: in_book) "
        "and results say what each of them sold and earned",
    )
    terms: tuple[ContractTerms, ...] = Field(min_length=1, description="one entry per stretch of time, earliest first")
