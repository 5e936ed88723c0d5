"""Which layer costs what, and what to do about it: numbers in, an order and words out.

The noise of the layers adds up nearly as independent noise does, so a layer's share of the sum is what mending it
can bring; a layer swapped back to float in the real model says how far that holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KEEP_FLOAT = "keep it in float"
TRAIN = "train with quantisation (QAT)"
EQUALISE = "equalisation"

# A remedy is worth naming when it takes away this share of the layer's noise.
_WORTH = 0.5
# A layer with less than this share is one of many: nothing done to it alone is worth its price.
_LONE = 0.05
# Widest channel over the median one: beyond it one grid for all channels is mostly empty.
_UNEVEN = 8.0


@dataclass(frozen=True)
class LayerFacts:
    """What was measured of one layer.

    Attributes:
        layer: Its name.
        kind: Its operator.
        noise: Mean square change of a score when this layer alone is quantised.
        own_sqnr_db: Of its own output.
        own_mse: Mean squared error of its own output.
        saturated: Share of its float outputs outside its integer grid.
        used: Share of the grid that they span.
        unevenness: Widest output channel over the median one.
        mended: Remedy -> noise that would be left.
    """

    layer: str
    kind: str
    noise: float
    own_sqnr_db: float
    own_mse: float
    saturated: float
    used: float
    unevenness: float = 1.0
    mended: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Blamed:
    """One layer of the ranking.

    Attributes:
        facts: What was measured.
        share: Of the noise of all layers, 0..1.
        sqnr_db: Of the scores when this layer alone is quantised.
        remedy: What to do first; empty for a layer on which nothing was tried.
        gain_db: How much the scores' SQNR would rise, if the noise of the layers adds up.
    """

    facts: LayerFacts
    share: float
    sqnr_db: float
    remedy: str
    gain_db: float

    def to_json(self) -> dict[str, Any]:
        """As it stands in a report."""
        f = self.facts
        return {
            "layer": f.layer,
            "kind": f.kind,
            "share": self.share,
            "sqnr_db": self.sqnr_db,
            "own_sqnr_db": f.own_sqnr_db,
            "own_mse": f.own_mse,
            "saturated": f.saturated,
            "used": f.used,
            "remedy": self.remedy,
            "predicted_gain_db": self.gain_db,
        }


def rank(signal: float, layers: Sequence[LayerFacts]) -> list[Blamed]:
    """Order layers by what they cost, the worst first.

    Args:
        signal: Mean square of a score.
        layers: What was measured.
    """
    total = sum(facts.noise for facts in layers)
    ranked = sorted(layers, key=lambda facts: -facts.noise)
    return [_blamed(signal, total, facts) for facts in ranked]


def _blamed(signal: float, total: float, facts: LayerFacts) -> Blamed:
    remedy, left = choose_remedy(facts, facts.noise / total if total > 0 else 0.0)
    rest = max(total - facts.noise + left, 1e-30)
    return Blamed(
        facts,
        facts.noise / total if total > 0 else 0.0,
        decibels(signal, facts.noise),
        remedy,
        10 * math.log10(total / rest) if total > 0 else 0.0,
    )


def choose_remedy(facts: LayerFacts, share: float = 1.0) -> tuple[str, float]:
    """The cheapest remedy that takes away half of the layer's noise, and the noise that it leaves.

    Without one: equalisation where the channels are uneven (it cannot be tried on one layer alone; nothing is
    promised of it), else the layer stays in float, which takes away all of it; a layer that is at fault only together
    with many others calls for training. Where nothing was tried, nothing is said.

    Args:
        facts: What was measured.
        share: Of the noise of all layers.
    """
    if not facts.mended:
        return "", facts.noise
    name, left = min(facts.mended.items(), key=lambda item: item[1])
    if left <= (1 - _WORTH) * facts.noise:
        return name, left
    if facts.unevenness > _UNEVEN:
        return EQUALISE, facts.noise
    return (KEEP_FLOAT, 0.0) if share >= _LONE else (TRAIN, facts.noise)


def decibels(signal: float, noise: float) -> float:
    """Signal to noise; 200 where there is no noise."""
    return min(200.0, 10 * math.log10(signal / noise)) if signal > 0 and noise > 0 else 200.0
