"""The gates of a recipe: every limit that a model must keep, in one place. Numbers in, verdict out.

A gate whose number was not measured fails and says how to measure it: a gate that was not looked at is not passed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from edgekit.errors import RecipeError, near_miss
from edgekit.verification.agreement import Agreement
from edgekit.verification.verdict import AgreementLimits, Finding, Verdict, judge_agreement


@dataclass(frozen=True)
class Gates:
    """Limits; None leaves one out.

    Attributes:
        agreement: Least share of crops on which the model names the same class as its float twin.
        agreement_lower: Least lower end of that share's 95 % interval.
        drop_points: Largest drop of top-1 in points that labelled images must certify (95 %, one-sided).
        top1: Least top-1 on labelled images, as a share.
        bytes: Largest file.
        p50_ms: Longest median of one inference, in milliseconds, on the machine that verifies.
        threads: Interpreter threads for `p50_ms`.
        operators: The operators that may occur; all when None.
        no_float: Whether a float tensor inside is forbidden.
    """

    agreement: float | None = None
    agreement_lower: float | None = None
    drop_points: float | None = None
    top1: float | None = None
    bytes: int | None = None
    p50_ms: float | None = None
    threads: int = 1
    operators: tuple[str, ...] | None = None
    no_float: bool = False

    @property
    def need_reference(self) -> bool:
        """Whether a float twin must be compared with."""
        return self.agreement is not None or self.agreement_lower is not None

    @property
    def need_speed(self) -> bool:
        """Whether inference must be timed."""
        return self.p50_ms is not None


@dataclass(frozen=True)
class Measured:
    """What is known of a model; None and empty were not measured.

    Attributes:
        bytes: Size of the file.
        operators: Count by name.
        float_tensors: Names of float tensors, the ends left out if they are meant to be float.
        agreement: With its float twin.
        evaluation: The document of `edgekit evaluate`.
        p50_ms: Median of one inference in milliseconds.
    """

    bytes: int
    operators: Mapping[str, int]
    float_tensors: tuple[str, ...]
    agreement: Agreement | None = None
    evaluation: Mapping[str, Any] | None = None
    p50_ms: float | None = None


def read_gates(path: Path) -> Gates:
    """Read ``[gates]`` of a TOML file.

    Raises:
        RecipeError: An unknown key, with the near miss, or a value that does not fit.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as cause:
        raise RecipeError(str(path), "gates", f"cannot be read ({cause})") from cause
    values = document.get("gates")
    if not isinstance(values, dict) or not values:
        raise RecipeError(str(path), "gates", "is missing: write a table [gates] with limits")
    return gates_of(values, str(path))


def gates_of(values: Mapping[str, Any], name: str = "gates") -> Gates:
    """Check limits that come as plain data.

    Raises:
        RecipeError: See `read_gates`.
    """
    known = {field.name for field in fields(Gates)}
    for key, value in values.items():
        if key not in known:
            raise RecipeError(name, key, f"is no gate{near_miss(key, known)} (known: {', '.join(sorted(known))})")
        _check(name, key, value)
    listed = {"operators": tuple(values["operators"])} if "operators" in values else {}
    return Gates(**{**values, **listed})


def judge(measured: Measured, gates: Gates) -> Verdict:
    """Hold what was measured against the limits."""
    verdict = Verdict(tuple(_file_findings(measured, gates)))
    if gates.need_reference:
        if measured.agreement is None:
            verdict += _unmeasured("same top class", "name the float model: --reference FLOAT.tflite")
        else:
            limits = AgreementLimits(top1=gates.agreement, top1_lower=gates.agreement_lower)
            verdict += judge_agreement(measured.agreement, limits)
    if gates.top1 is not None or gates.drop_points is not None:
        verdict += _accuracy(measured.evaluation, gates)
    if gates.p50_ms is not None:
        if measured.p50_ms is None:
            verdict += _unmeasured("speed", "run edgekit verify, which times it")
        else:
            threads = f"{gates.threads} thread{'s' if gates.threads > 1 else ''}"
            detail = f"p50 {measured.p50_ms:.2f} ms on {threads}, at most {gates.p50_ms:g} ms wanted"
            verdict += Verdict((Finding("speed", measured.p50_ms <= gates.p50_ms, detail),))
    return verdict


def _file_findings(measured: Measured, gates: Gates) -> list[Finding]:
    findings = []
    if gates.bytes is not None:
        detail = f"{measured.bytes} bytes, at most {gates.bytes} wanted"
        findings.append(Finding("size", measured.bytes <= gates.bytes, detail))
    if gates.operators is not None:
        foreign = sorted(set(measured.operators) - set(gates.operators))
        detail = f"{', '.join(foreign)} not allowed" if foreign else f"only {', '.join(sorted(measured.operators))}"
        findings.append(Finding("allowed operators", not foreign, detail))
    if gates.no_float:
        names = ", ".join(measured.float_tensors[:3])
        detail = f"{len(measured.float_tensors)} float tensors, first {names}" if names else "none"
        findings.append(Finding("float tensors", not names, detail))
    return findings


def _accuracy(evaluation: Mapping[str, Any] | None, gates: Gates) -> Verdict:
    how = "measure it: edgekit evaluate MODEL DATA --against FLOAT --json > EVAL.json, then --evaluation EVAL.json"
    if evaluation is None:
        return _unmeasured("accuracy", how)
    findings = []
    if gates.top1 is not None:
        passed = evaluation["top1"] >= gates.top1
        detail = f"{evaluation['top1']:.1%} of {evaluation['n']} images, at least {gates.top1:.1%} wanted"
        findings.append(Finding("accuracy", passed, detail))
    if gates.drop_points is not None:
        upper = evaluation.get("drop_upper_points")
        if upper is None:
            return Verdict(tuple(findings)) + _unmeasured("drop", how)
        detail = (
            f"{evaluation['drop_points']:.2f} points seen on {evaluation['n']} images, surely at most {upper:.2f}, "
            f"at most {gates.drop_points:g} wanted"
        )
        findings.append(Finding("drop", upper <= gates.drop_points, detail))
    return Verdict(tuple(findings))


def _unmeasured(check: str, how: str) -> Verdict:
    return Verdict((Finding(check, False, f"not measured; {how}"),))


def _check(name: str, key: str, value: Any) -> None:
    if key == "operators":
        if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
            raise RecipeError(name, key, "must be a list of operator names")
        return
    if key == "no_float":
        if not isinstance(value, bool):
            raise RecipeError(name, key, "must be true or false")
        return
    whole = key in ("bytes", "threads")
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise RecipeError(name, key, f"must be a {'whole ' if whole else ''}number")
    highest = 1.0 if key in ("agreement", "agreement_lower", "top1") else 100.0 if key == "drop_points" else 1e12
    if not 0 < value <= highest:
        raise RecipeError(name, key, f"must be above 0 and at most {highest:g}")
