"""Limits in, verdict out: the one place where a measured number becomes yes or no."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgekit.errors import LimitsError
from edgekit.verification.agreement import Agreement


@dataclass(frozen=True)
class Finding:
    """One thing that was checked.

    Attributes:
        check: What, in a word or two.
        passed: Whether it is as it should be.
        detail: What was found, and what should have been where it was not.
    """

    check: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Verdict:
    """All that was checked of one model."""

    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether every finding is as it should be."""
        return all(finding.passed for finding in self.findings)

    @property
    def broken(self) -> tuple[str, ...]:
        """One line for each finding that is not."""
        return tuple(f"{finding.check}: {finding.detail}" for finding in self.findings if not finding.passed)

    def __add__(self, other: Verdict) -> Verdict:
        """Both verdicts in one."""
        return Verdict(self.findings + other.findings)

    def to_json(self) -> dict[str, Any]:
        """As it stands in a report."""
        return {
            "passed": self.passed,
            "findings": [{"check": f.check, "passed": f.passed, "detail": f.detail} for f in self.findings],
        }

    def require(self, model: str) -> None:
        """Stop here unless everything passed.

        Raises:
            LimitsError: With one line for each limit that is not kept; exit code 3.
        """
        if not self.passed:
            raise LimitsError(model, self.broken)


@dataclass(frozen=True)
class AgreementLimits:
    """What a quantised model must keep of its float twin; None leaves a number out.

    Attributes:
        top1: Least share of crops with the same highest class.
        top1_lower: Least lower end of that share's interval.
        max_abs_diff: Largest difference of any score.
    """

    top1: float | None = 0.95
    top1_lower: float | None = None
    max_abs_diff: float | None = None


def judge_agreement(agreement: Agreement, limits: AgreementLimits) -> Verdict:
    """Hold a measured agreement against its limits."""
    low, high = agreement.top1_interval
    measured = f"{agreement.top1:.1%} of {agreement.n} crops ({low:.1%} to {high:.1%}, {agreement.photos} photos)"
    findings = []
    if limits.top1 is not None:
        passed = agreement.top1 >= limits.top1
        findings.append(Finding("same top class", passed, f"{measured}, at least {limits.top1:.1%} wanted"))
    if limits.top1_lower is not None:
        detail = f"{low:.1%} is the lower bound ({agreement.n} crops), at least {limits.top1_lower:.1%} wanted"
        findings.append(Finding("same top class, surely", low >= limits.top1_lower, detail))
    if limits.max_abs_diff is not None:
        worst = agreement.max_abs_diff
        detail = f"{worst:.4f} is the largest difference, at most {limits.max_abs_diff:.4f} wanted"
        findings.append(Finding("scores", worst <= limits.max_abs_diff, detail))
    return Verdict(tuple(findings))
