"""Devices among models: what stands for a building's battery or PV, and how its readings become the building's.

`scaling` and `counting` turn a device's counters into whole Wh of the building; `assets` are single devices behind one
small protocol; `banks` put them beside the models; `opening` starts or reaches them; `account` says afterwards how far
they went from the models.
"""
