"""The live market: commands in, facts into the journal, answers and publications out."""
