"""A fleet of emulated devices in several processes, and the HTTP control that switches their faults."""
