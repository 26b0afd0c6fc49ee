"""The guardian: the process that owns the links to devices and answers for what is written to them."""
