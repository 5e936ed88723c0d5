"""What every test may use."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable

import pytest


def require(module: str, install: str) -> None:
    """Skip loudly where a package is missing; under EDGEKIT_REQUIRE=all a missing package is a failure."""
    if importlib.util.find_spec(module.partition(".")[0]) is not None:
        return
    absent(module, install)


def absent(what: str, install: str) -> None:
    """Skip, or fail under EDGEKIT_REQUIRE=all, because something that this test needs is not here."""
    message = f"needs {what}; install it with: {install}"
    if os.environ.get("EDGEKIT_REQUIRE") == "all":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture
def need() -> Callable[[str, str], None]:
    """`require`, for tests: ``need("torch", "pip install torch==2.13.0")``."""
    return require


@pytest.fixture(scope="session")
def require_tool() -> Callable[[str, str], str]:
    """Find a program: ``require_tool("minisign", "apt install minisign")`` gives its path."""

    def find(tool: str, install: str) -> str:
        path = shutil.which(tool)
        if path is None:
            absent(tool, install)
        return str(path)

    return find
