"""From a loaded scenario to a prepared `System`: everything read, checked and laid out as columns."""

from peerwatt.prepare.prepare import prepare

__all__ = ["prepare"]
