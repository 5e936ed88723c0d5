"""Passes that change a model so that it loses less when it becomes smaller: one pass a file, one signature."""
