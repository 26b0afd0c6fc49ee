"""Devices behind Modbus TCP. The only place that imports pymodbus."""
