"""From a stream of scores to a decision: several looks before a claim, and the right to say nothing.

The defaults are Frigate's, which its users know: threshold 0.8, at least 3 attempts, 60 % consensus.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass


@dataclass(frozen=True)
class SmoothingRule:
    """When a label counts as seen.

    Attributes:
        threshold: Least score of one frame that may vote.
        attempts: Least number of votes before anything is accepted.
        consensus: Least share of the last frames that voted for the winner.
        history: How many frames are remembered.
    """

    threshold: float = 0.8
    attempts: int = 3
    consensus: float = 0.6
    history: int = 10


@dataclass(frozen=True)
class Decision:
    """What is claimed now: a class that was accepted, or the best guess marked uncertain."""

    index: int
    score: float
    accepted: bool


class Smoother:
    """Votes over the last frames; keeps its claim until another one has the consensus."""

    def __init__(self, rule: SmoothingRule) -> None:
        self.rule = rule
        self._recent: deque[tuple[int, float]] = deque(maxlen=rule.history)

    def add(self, index: int, score: float) -> Decision:
        """Add one frame's top-1 and decide.

        Args:
            index: Class of the highest score.
            score: That score, 0..1.
        """
        self._recent.append((index, score))
        votes = Counter(i for i, s in self._recent if s >= self.rule.threshold)
        if votes:
            winner, count = votes.most_common(1)[0]
            if count >= self.rule.attempts and count >= self.rule.consensus * len(self._recent):
                best = max(s for i, s in self._recent if i == winner)
                return Decision(winner, best, accepted=True)
        return Decision(index, score, accepted=False)
