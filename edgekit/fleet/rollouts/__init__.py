"""A new release on many boards, a few at a time: what was asked for, what boards say, what follows, and who does it."""
