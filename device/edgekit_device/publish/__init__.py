"""Where Readings go: one table of names, each imported when it is chosen."""
