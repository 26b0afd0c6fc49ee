"""A neighbourhood in wall-clock time: the slot cycle's plant and strategies on the live market engine."""
