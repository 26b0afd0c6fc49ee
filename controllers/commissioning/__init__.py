"""Commissioning: what a device does when it is told something, and when nobody tells it anything any more.

Measured, not believed. Without a record of it nothing is armed.
"""
