"""The verb `wheels release`: a runtime release out of a folder of wheels, signed with the user's key."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edgekit.bundling.runtime_release import RuntimePlan, WrittenRuntime, write_runtime
from edgekit.errors import UsageError
from edgekit.trust.keys import load_key, load_or_create


def runtime_release(
    wheels: str | Path,
    *,
    python: str,
    machine: str,
    out: str | Path,
    system: Iterable[str] = (),
    version: str | None = None,
    sign: str | Path | None = None,
    security_epoch: int = 0,
) -> WrittenRuntime:
    """Put the wheels of one Python and one machine into a signed runtime release.

    Args:
        wheels: Folder of wheels, edgekit-device's and pip's among them.
        python: Of the boards, such as ``3.11``.
        machine: Of the boards, such as ``aarch64``.
        out: The ``.edgekit`` file, or a folder for one under its own name.
        system: Packages that these boards take from their own system, such as numpy.
        version: ``N.N.N``; edgekit-device's by default.
        sign: Secret key file; the user's own by default, made at first use.
        security_epoch: Boards that have entered it install nothing lower.

    Raises:
        EdgeKitError: Named by its class; nothing is left half-written.
    """
    target, folder = Path(out), Path(wheels)
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; fill one with: edgekit wheels fetch")
    if target.suffix != ".edgekit" and not target.is_dir():
        raise UsageError(f"-o {target}: name a file that ends in .edgekit, or a folder that is there")
    plan = RuntimePlan(
        folder=folder,
        python=python,
        machine=machine,
        system=frozenset(system),
        version=version,
        security_epoch=security_epoch,
    )
    return write_runtime(plan, target, load_key(Path(sign)) if sign else load_or_create())
