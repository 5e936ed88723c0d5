"""`edgekit-device bench`."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit_device.benching.litert_tool import benchmark
from edgekit_device.benching.table import table
from edgekit_device.board_kind import own_kind
from edgekit_device.bundle import open_bundle
from edgekit_device.diagnosis.children import ask
from edgekit_device.diagnosis.proof import EDGETPU, rungs_of
from edgekit_device.health.readings import cpu_temp_c
from edgekit_device.health.throttling import decode, kernel_bits
from edgekit_device.infer import edgetpu
from edgekit_device.infer.tuning import Layout, layouts
from edgekit_device.progress import sealed_memory
from edgekit_device.running import default_threads, find_bundle
from edgekit_device.sources import check_source
from edgekit_device.sources.frame import SourceOptions

if TYPE_CHECKING:
    from edgekit_device.bundle import Bundle

_STARTING_S = 60.0
_CODE = """
config = json.loads(sys.stdin.readline())
from edgekit_device.benching.measuring import measure
answer(measure(config))
"""


def bench(args: argparse.Namespace) -> int:
    """Measure every rung in every layout, each in a child of its own.

    Returns:
        0 when one row could be measured, else 1.

    Raises:
        EdgeKitError: There is no bundle, it is not as signed, or the source is not one.
    """
    options = SourceOptions(loop=True, realtime=args.realtime)
    if args.source is not None:
        check_source(args.source, options)
    path, keys = find_bundle(args)
    bundle, data = open_bundle(path, keys)
    rungs = rungs_of(bundle) if args.delegate in (None, "auto") else (args.delegate,)
    rows = []
    for rung in rungs:
        for layout in _layouts(rung, args.threads):
            if not args.json:
                sys.stderr.write(f"edgekit-device: {rung}, {layout}: {args.seconds:g} s\n")
            rows.append(_row(bundle, data, str(path), rung, layout, args, options))
    beside = [] if args.no_litert else _beside(bundle, args.threads)
    document = {
        "schema": 1,
        "bundle": bundle.manifest.bundle_id,
        "model_sha256": hashlib.sha256(bundle.model()).hexdigest(),
        "kind": own_kind(),
        "source": args.source or "golden photos from memory",
        "cores": len(os.sched_getaffinity(0)),
        "rows": rows,
        "litert": beside,
    }
    print(json.dumps(document, sort_keys=True) if args.json else "\n".join(table(document)))
    return 0 if any("problem" not in row for row in rows) else 1


def _layouts(rung: str, threads: int | None) -> list[Layout]:
    if rung == EDGETPU:
        return [Layout(1, 1)]
    return [Layout(1, threads)] if threads else layouts(default_threads())


def _board() -> dict[str, Any]:
    bits = kernel_bits(Path("/sys"))
    return {"cpu_temp_c": cpu_temp_c(Path("/sys")), "throttled": None if bits is None else list(decode(bits).now)}


def _row(
    bundle: Bundle,
    data: bytes,
    path: str,
    rung: str,
    layout: Layout,
    args: argparse.Namespace,
    options: SourceOptions,
) -> dict[str, Any]:
    head = {"rung": rung, "layout": str(layout), "before": _board()}
    if rung == EDGETPU and edgetpu.in_use():
        # A second process that opens it would abort the one that serves.
        return {**head, "problem": "in use by the running service; stop that first"}
    fd = sealed_memory("edgekit-bench", data)
    config = {
        "fd": fd,
        "path": path,
        "key_id": bundle.key_id,
        "rung": rung,
        **layout._asdict(),
        "source": args.source,
        "options": {k: v for k, v in asdict(options).items() if k not in ("faults", "photos")},
        "seconds": args.seconds,
    }
    try:
        found = ask(_CODE, deadline_s=args.seconds + _STARTING_S, stdin=json.dumps(config) + "\n", pass_fds=(fd,))
    finally:
        os.close(fd)
    return {**head, **(found.value or {"problem": found.problem}), "after": _board()}


def _beside(bundle: Bundle, threads: int | None) -> list[dict[str, Any]]:
    counts = [threads] if threads else sorted({layout.threads for layout in layouts(default_threads())})
    found = (benchmark(bundle.model(), count) for count in counts)
    return [figure for figure in found if figure]
