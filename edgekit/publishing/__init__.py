"""The fleet's repository of releases, signed so that a board knows what is new: The Update Framework."""
