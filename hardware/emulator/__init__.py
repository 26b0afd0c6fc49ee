"""Emulated devices: Modbus servers with physics, timers and every fault of the catalogue."""
