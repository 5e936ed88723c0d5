"""The verbs `doctor`, `status` and `check`: look, print, and say with the exit code how it stands."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from edgekit_device.contract.errors import UsageError
from edgekit_device.diagnosis.finding import FAIL, summary
from edgekit_device.housekeeping import in_words
from edgekit_device.status_file import Found, look_up


def doctor(args: argparse.Namespace) -> int:
    """Say what is wrong and how to mend it.

    Returns:
        0 when no check failed, else 1.
    """
    from edgekit_device.diagnosis.examination import examine
    from edgekit_device.diagnosis.finding import table

    findings = examine(_root(args), args.broker)
    failed = any(finding.state == FAIL for finding in findings)
    if args.json:
        _print_json({"ok": not failed, "findings": [finding.to_json() for finding in findings]})
    else:
        print(table(findings))
        print(summary(findings))
    return int(failed)


def status(args: argparse.Namespace) -> int:
    """Say what the running supervisor says.

    Returns:
        0 when one is alive, else 1.
    """
    from edgekit_device.installing import installed, installed_line
    from edgekit_device.runtimes.verb import runtime_line, runtime_state

    found, slots = look_up(_root(args)), installed(_root(args))
    runtime = runtime_state(_root(args))
    if args.json:
        path = None if found.path is None else str(found.path)
        age_s = None if found.age_s is None else round(found.age_s, 1)
        _print_json(
            {"alive": found.alive, "path": path, "age_s": age_s, "slots": slots, "runtime": runtime, **found.document}
        )
    else:
        lines = [line for line in (installed_line(slots), runtime_line(runtime)) if line]
        print("\n".join(status_lines(found, args.root) + lines))
    return 0 if found.alive else 1


def status_lines(found: Found, root: str) -> list[str]:
    """A status for a person.

    Args:
        found: What was found.
        root: Where it was looked for.
    """
    document = found.document
    if found.path is None:
        return [f"not running: no supervisor has left a word under {root}; start one: edgekit-device run --root {root}"]
    if not found.alive:
        said = (document.get("status") or {}).get("state")
        how = "stopped" if said == "stopped" else "ended without a goodbye: journalctl -u edgekit-device -n 50"
        return [f"not running: pid {document.get('pid')} {how}", f"last word at {document.get('written_at')}"]
    lines = [in_words(document, found.age_s), f"pid {document['pid']} since {document.get('started_at')}"]
    reading: dict[str, Any] = document.get("reading") or {}
    if reading:
        seen = "-" if reading.get("label") is None else f"{reading['label']} {reading.get('score')}"
        lines.append(f"{reading.get('at')}: {reading.get('source')}, sees {seen}")
        board = {
            "C": reading.get("cpu_temp_c"),
            "W": reading.get("soc_power_w"),
            "mJ an inference": reading.get("energy_per_inference_mj"),
        }
        words = [f"{value} {unit}" for unit, value in board.items() if value is not None]
        words += [f"{name} now" for name in reading.get("throttled_now") or ()]
        if words:
            lines.append("board: " + ", ".join(words))
    lines += [f"slow: {words}" for words in document.get("warnings") or ()]
    for way in document.get("outlets") or ():
        if way.get("reason") or way.get("waiting") or way.get("lost"):
            lines.append(
                f"{way['name']}: {way['waiting']} waiting, {way['lost']} lost; {way.get('reason') or 'connected'}"
            )
    return lines


def check(args: argparse.Namespace) -> int:
    """Prove the bundle on every rung.

    Returns:
        0 when one rung works, else 1.

    Raises:
        EdgeKitError: There is no bundle, or it is not as signed.
    """
    from edgekit_device.bundle import open_bundle, trusted_keys
    from edgekit_device.diagnosis.installation import KEYS
    from edgekit_device.diagnosis.proof import EDGETPU, Proof, prove_rung, rungs_of, table
    from edgekit_device.running import default_threads

    path = Path(args.bundle) if args.bundle else _installed(args)
    pubkey = Path(args.pubkey) if args.pubkey else None
    bundle, data = open_bundle(path, trusted_keys(pubkey, board_keys=_root(args) / KEYS))
    rungs = rungs_of(bundle) if args.delegate in (None, "auto") else (args.delegate,)
    running, proofs = look_up(_root(args)), []
    for rung in rungs:
        if rung == EDGETPU and running.alive and (running.document.get("status") or {}).get("delegate") == EDGETPU:
            # A second process that opens it would abort the one that serves.
            proofs.append(Proof(rung, ok=True, reason=f"in use by pid {running.document.get('pid')}, which proved it"))
            continue
        proofs.append(prove_rung(bundle, data, str(path), rung, threads=args.threads or default_threads()))
    works = any(proof.ok for proof in proofs)
    if args.json:
        _print_json({"bundle": bundle.manifest.bundle_id, "ok": works, "rungs": [proof.to_json() for proof in proofs]})
    else:
        print(f"{bundle.manifest.bundle_id}, signed with key {bundle.key_id}")
        print(table(proofs))
        best = next((proof.rung for proof in proofs if proof.ok), None)
        print(f"`--delegate auto` serves {best}" if best else "no rung works; next: edgekit-device doctor")
    return 0 if works else 1


def _installed(args: argparse.Namespace) -> Path:
    """The current release's bundle; read only, so that it works beside a running service and without its rights."""
    from edgekit_device.diagnosis.installation import SLOTS
    from edgekit_device.releases import current

    slot = current(_root(args) / SLOTS)
    if slot is None:
        raise UsageError(f"nothing is installed below {args.root}; name a bundle with --bundle FILE, or flash one")
    return slot.bundle_path


def _root(args: argparse.Namespace) -> Path:
    root = Path(args.root)
    if not root.is_dir():
        raise UsageError(f"--root {root}: no such folder")
    return root


def _print_json(values: dict[str, Any]) -> None:
    print(json.dumps({"schema": 1, **values}, sort_keys=True))
