"""What all scenario models share: the strict base class, number types with their limits, local moments."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema

ID_PATTERN = r"^[a-z0-9][a-z0-9._-]*$"
CLOCK_PATTERN = r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$"
CURRENCY_PATTERN = r"^[A-Z]{3}$"

Id = Annotated[str, Field(pattern=ID_PATTERN, max_length=80)]
Price = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Efficiency = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Clock = Annotated[str, Field(pattern=CLOCK_PATTERN)]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?")


def parse_moment(value: Any) -> date | datetime:
    """A date or date-time from ISO 8601 text; objects of these types pass unchanged.

    Raises
    ------
    ValueError
        If the text is neither, or names a day or time that does not exist.
    """
    if isinstance(value, date):  # datetime is a date
        return value
    text = value.strip() if isinstance(value, str) else ""
    if _DATE.fullmatch(text):
        return date.fromisoformat(text)
    if _DATE_TIME.fullmatch(text):
        return datetime.fromisoformat(text)
    raise ValueError("must be a date such as 2016-01-31, or a date and time such as 2016-01-31T06:00")


def parse_date_time(value: Any) -> datetime:
    """Like `parse_moment`, but the time of day has to be there.

    Raises
    ------
    ValueError
        If the value is no date-time.
    """
    moment = parse_moment(value)
    if not isinstance(moment, datetime):
        raise ValueError("needs a time of day too, such as 2016-01-31T06:00")
    return moment


def write_moment(moment: date | datetime) -> str:
    """ISO 8601 text that `parse_moment` reads back as an equal value."""
    return moment.isoformat() if not isinstance(moment, datetime) else moment.isoformat(timespec="seconds")


def _text_of_index(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Moment = Annotated[
    date | datetime,
    PlainValidator(parse_moment),
    PlainSerializer(write_moment, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?)?$"}),
]
"""A local date or local date-time in the scenario's zone; a value with an offset is taken as it is."""

DateTime = Annotated[
    datetime,
    PlainValidator(parse_date_time),
    PlainSerializer(write_moment, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(Z|[+-]\d\d:\d\d)?$"}),
]
"""A local date-time in the scenario's zone; a value with an offset is taken as it is."""

BusName = Annotated[
    str,
    BeforeValidator(_text_of_index),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
]
"""A bus by its name, or by its index in the network (a bare number)."""


class Model(BaseModel):
    """Frozen, unknown keys refused; the loader reads it strictly, so that text is never taken for a number."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
