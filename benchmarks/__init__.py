"""Every claim of speed or accuracy as a row that anyone can run: ``make bench``."""
