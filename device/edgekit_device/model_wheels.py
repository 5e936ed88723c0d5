"""Models that came with pip: a wheel that carries a signed bundle and announces it as an entry point.

The bundle is still checked against a public key: the one inside the same wheel. Whoever installs a wheel with pip lets
it run code, so its key is trusted for its own bundle, and for nothing else.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

from edgekit_device.contract.errors import UsageError

GROUP = "edgekit.models"


def installed_model(name: str | None = None) -> tuple[Path, tuple[Path, ...]]:
    """Find the bundle of an installed model wheel.

    Args:
        name: Entry point's name, e.g. ``lite0``; None takes the only one.

    Returns:
        (bundle file, its public key).

    Raises:
        UsageError: None is installed, none has that name, or several are and none was named.
    """
    found = {point.name: point.value for point in entry_points(group=GROUP)}
    if not found:
        raise UsageError(
            "no bundle was named and no model wheel is installed; name one with --bundle FILE, "
            "or: pip install edgekit-model-lite0"
        )
    if name is None and len(found) > 1:
        raise UsageError(f"several models are installed ({', '.join(sorted(found))}); name one with --bundle NAME")
    chosen = name or next(iter(found))
    if chosen not in found:
        raise UsageError(f"no installed model is called {chosen!r} (installed: {', '.join(sorted(found))})")
    folder = Path(str(files(found[chosen])))
    bundles, keys = sorted(folder.glob("*.edgekit")), tuple(sorted(folder.glob("*.pub")))
    if len(bundles) != 1 or len(keys) != 1:
        raise UsageError(f"the installed model {chosen} is damaged ({folder}); install it again")
    return bundles[0], keys
