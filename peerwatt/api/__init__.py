"""The HTTP side of a live market: everything below ``/api/v1``."""
