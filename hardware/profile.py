"""Devices as data: one YAML file is one device. ``load_profile("sdm630")``, ``profiles()``, ``profile_schema()``.

Profiles come from three places: those that ship with peerwatt, files, and packages that announce theirs under the
entry-point group ``peerwatt.profiles`` (the entry's value is the path of the YAML file, or a function returning it).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.errors import DeviceError, ScenarioError
from hardware.driver import Ratings, Sample, Span
from hardware.profile_checks import findings
from hardware.profile_driver import ProfileDriver, bind, first_spans
from hardware.profile_models import Profile
from hardware.profile_types import TYPES
from hardware.yaml_source import Source, YamlFileError, read_text

__all__ = [
    "Profile",
    "ProfileDriver",
    "YamlFileError",
    "bind",
    "driver_of_vector",
    "first_spans",
    "load_profile",
    "parse_profile",
    "profile_schema",
    "profiles",
    "vector_samples",
]

GROUP = "peerwatt.profiles"
_SHIPPED = Path(__file__).parent / "profiles"


def profiles() -> tuple[str, ...]:
    """Names that `load_profile` knows, shipped ones and those of installed packages, in alphabetical order."""
    shipped = {path.stem for path in _SHIPPED.glob("*.yaml")}
    return tuple(sorted(shipped | {entry.name for entry in entry_points(group=GROUP)}))


def load_profile(name_or_path: str | Path) -> Profile:
    """A profile by its name or its file.

    Raises
    ------
    YamlFileError
        If there is none, or it is wrong: every problem with file, line, place, reason and remedy.
    """
    path = _find(name_or_path)
    return parse_profile(read_text(path), str(path))


def _find(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith((".yaml", ".yml")):
        return Path(name_or_path)
    shipped = _SHIPPED / f"{text}.yaml"
    if shipped.is_file():
        return shipped
    for entry in entry_points(group=GROUP, name=text):
        found = entry.load()
        return Path(found() if callable(found) else found)
    remedy = f"choose one of {', '.join(profiles())}, or give the path of a YAML file"
    raise YamlFileError([ScenarioError(f"there is no profile {text!r}", remedy=remedy)])


def parse_profile(text: str, file: str = "profile.yaml") -> Profile:
    """A profile from its YAML text; ``file`` is what errors call it.

    Raises
    ------
    YamlFileError
        See `load_profile`.
    """
    source = Source(text, file)
    try:
        profile = Profile.model_validate_json(json.dumps(source.value), strict=True)
    except ValidationError as error:
        source.explain(error, Profile)
        source.raise_any()
        raise
    for place, reason, remedy in findings(profile):
        source.add(place, reason, remedy)
    source.raise_any()
    return profile


def profile_schema() -> dict[str, Any]:
    """JSON Schema of a profile, for editors that check while one types."""
    schema = Profile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "peerwatt device profile", **schema}


def vector_samples(profile: Profile, spans: tuple[Span, ...]) -> dict[Span, Sample]:
    """Samples of ``spans`` with the registers of the profile's test vector.

    Raises
    ------
    DeviceError
        Local, if the vector does not give a register that is read.
    """
    known: dict[tuple[int, int], int] = {}
    for block in profile.test_vector.registers:
        function = block.function or profile.link.function
        known |= {(function, block.address + i): word for i, word in enumerate(block.registers())}
    return {span: Sample(span, _words(profile, span, known), 0.0, 0.0, 1) for span in spans}


def _words(profile: Profile, span: Span, known: Mapping[tuple[int, int], int]) -> tuple[int, ...]:
    """Registers that no point reads are 0 where the vector leaves them out."""
    read = set(_registers(profile))
    missing = [
        address
        for address in range(span.address, span.address + span.count)
        if (span.function, address) in read and (span.function, address) not in known
    ]
    if missing:
        raise DeviceError(
            f"{profile.profile}: the test vector does not give register {missing[0]} (function {span.function})",
            local=True,
            remedy="add it to test_vector.registers",
        )
    return tuple(known.get((span.function, address), 0) for address in range(span.address, span.address + span.count))


def _registers(profile: Profile) -> list[tuple[int, int]]:
    """Function and address of everything that has a meaning."""
    found: list[tuple[int, int]] = [(profile.link.function, guard.address) for guard in profile.guards]
    for point in profile.points.values():
        function: int = point.function or profile.link.function
        if point.address is not None and point.type is not None:
            found += [(function, point.address + i) for i in range(TYPES[point.type].words)]
        if point.factor is not None:
            found.append((function, point.factor))
    return found


def driver_of_vector(profile: Profile, *, ratings: Ratings | None = None) -> ProfileDriver:
    """The driver of the device that the test vector describes, for tests without one."""
    return ProfileDriver(profile, vector_samples(profile, first_spans(profile)), ratings=ratings)
