"""Who types: for logs of what was done."""

from __future__ import annotations

import getpass


def command_line() -> str:
    """Who types a verb; no user of the dashboard can be called so, for their names have no parentheses."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # Python 3.11 and 3.12 let the KeyError of an unknown user id through.
        name = "?"
    return f"{name[:40]} (command line)"
