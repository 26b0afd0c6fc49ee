"""Outages in a run: the district's island between the slot cycle, the microgrid supervisor and the island's physics."""
