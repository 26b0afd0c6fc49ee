"""The microgrid supervisor: planned and unplanned islanding, dispatch in both states, black start and reconnection."""
