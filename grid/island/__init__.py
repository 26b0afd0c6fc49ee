"""The physics of a small island behind one switch: sources with droop and inertia, loads in blocks, the grid side.

Public: `IslandWorld` (grid/island/world.py) and what it is made of (grid/island/spec.py). No controller is known here.
"""
