"""SunSpec Modbus devices: model definitions, codec, discovery and driver."""

from hardware.sunspec.driver import SunSpecDriver, discover
from hardware.sunspec.scan import Found, Scan, scan

__all__ = ["Found", "Scan", "SunSpecDriver", "discover", "scan"]
