"""Checks of a heated building: the profiles of weather that it names."""

from __future__ import annotations

from peerwatt.scenario.heat import HeatedBuilding
from peerwatt.scenario.models import Scenario
from peerwatt.scenario.problems import Problems, YamlPath, choose
from peerwatt.scenario.supply import WeatherPv


def check_heated(heated: HeatedBuilding, path: YamlPath, scenario: Scenario, problems: Problems) -> None:
    """Collect profiles that do not exist or are no weather. What a data set's column holds is seen when it is read."""
    for key, name, unit in (("outdoor", heated.outdoor, "degC"), ("sun", heated.sun, "W/m2")):
        if name is None:
            continue
        profile = scenario.profiles.get(name)
        if profile is None:
            remedy = choose(name, scenario.profiles, what="profile")
            problems.add((*path, key), f"there is no profile {name!r}", remedy)
        elif isinstance(profile, WeatherPv) or profile.unit not in (None, unit):
            has = "yield of PV" if isinstance(profile, WeatherPv) else profile.unit
            problems.add((*path, key), f"profile {name!r} is {has}, not {unit}", f"name a profile with unit: {unit}")
