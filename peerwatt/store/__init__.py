"""The registry of a live market: who may ask for what, offers that wait, who looked at whose data.

Opened with `peerwatt.store.registry.Registry.open`. Nothing is imported here: a command's ``--help`` stays quick.
"""
