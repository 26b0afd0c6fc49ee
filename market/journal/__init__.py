"""The durable record of a live market: a hash chain of pseudonymous events, with what is personal under a person's key.

The journal is the truth. Everything else that a live market shows (its state, tables, messages, pages) is made from it.
"""
