from __future__ import annotations

import numpy as np

from edgekit.training.head import HeadPlan, train_head


def clouds(counts: tuple[int, ...], apart: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    middles = rng.normal(0, apart, (len(counts), 16))
    features = np.concatenate([rng.normal(m, 1.0, (n, 16)) for m, n in zip(middles, counts, strict=True)])
    return features.astype(np.float32), np.repeat(np.arange(len(counts)), counts)


def test_what_is_apart_is_told_apart_and_the_same_seed_says_the_same() -> None:
    features, targets = clouds((60, 60, 60), 3.0)
    ones = np.ones(len(targets), np.float32)
    kernel, bias, losses = train_head(features, targets, 3, ones, HeadPlan(rate=1e-2), 1)
    assert ((features @ kernel + bias).argmax(1) == targets).mean() == 1.0
    assert losses[-1] < losses[0]
    again = train_head(features, targets, 3, ones, HeadPlan(rate=1e-2), 1)
    assert np.array_equal(kernel, again[0])
    assert not np.array_equal(kernel, train_head(features, targets, 3, ones, HeadPlan(rate=1e-2), 2)[0])


def test_weights_raise_the_recall_of_a_rare_class() -> None:
    features, targets = clouds((400, 12), 0.35)
    plain = np.ones(len(targets), np.float32)
    balanced = np.where(targets == 0, 206 / 400, 206 / 12).astype(np.float32)
    found = []
    for weights in (plain, balanced):
        kernel, bias, _ = train_head(features, targets, 2, weights, HeadPlan(rate=1e-2), 0)
        found.append(((features @ kernel + bias).argmax(1)[targets == 1] == 1).mean())
    assert found[1] > found[0]
