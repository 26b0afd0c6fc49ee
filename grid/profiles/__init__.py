"""Profiles: time series of files and data sets, brought onto the slot grid with energy conserved."""

from grid.profiles.gaps import Gap
from grid.profiles.load import load_profiles
from grid.profiles.refs import Ref, SeriesRef, WeatherPvRef
from grid.profiles.table import ProfileReport, ProfileTable

__all__ = ["Gap", "ProfileReport", "ProfileTable", "Ref", "SeriesRef", "WeatherPvRef", "load_profiles"]
