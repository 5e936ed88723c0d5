"""What a converter's exception means, in one line."""

from __future__ import annotations

from edgekit.errors import ConversionError

_REPORT = "if this is a model that should convert, report it with the lines below"


def failure(stage: str, cause: Exception, log: str) -> ConversionError:
    """The error to raise in place of a converter's own.

    Args:
        stage: ``lower``, ``calibrate`` or ``quantise``.
        cause: What was raised.
        log: What the converter wrote meanwhile.
    """
    text = str(cause)
    for marker in ("TF Select ops:", "Custom ops:"):
        if marker in text:
            names = text.split(marker, 1)[1].splitlines()[0].strip()
            return ConversionError(stage, f"TFLite has no operator for {names}", "replace the layer that uses it", log)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return ConversionError(
        stage, f"{type(cause).__name__}: {lines[0][:300] if lines else 'no reason given'}", _REPORT, log
    )
