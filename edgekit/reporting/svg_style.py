"""The style that pictures of figures share: they follow a light or a dark page."""

from __future__ import annotations


def svg_style(light: str = "", dark: str = "") -> str:
    """A <style> element for text, ``.soft`` text and the ``.page`` behind all of it.

    Args:
        light: Rules of one picture more.
        dark: What of them is otherwise on a dark page.
    """
    return (
        "<style>text{font:12px system-ui,sans-serif;fill:#1b1f24}.soft{fill:#57606a}.page{fill:#fff}"
        f"{light}@media(prefers-color-scheme:dark)"
        f"{{text{{fill:#e6edf3}}.soft{{fill:#8b949e}}.page{{fill:#0d1117}}{dark}}}</style>"
    )
