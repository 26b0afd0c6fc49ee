"""One file per market rule. Every module here is imported when rules are looked up by name; ``_`` marks helpers."""
