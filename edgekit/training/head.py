"""The classifier's last layer, learnt on cached features with all below frozen: numpy, seconds, the same each time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HeadPlan:
    """How the head is learnt.

    Attributes:
        epochs: Times it sees every picture.
        rate: Adam's first step size; a cosine takes it to nothing.
        batch: Pictures a step.
        smoothing: Share of the target spread over all classes.
        dropout: Share of features left out, anew each step.
        decay: Pull of the weights towards nothing, decoupled as in AdamW.
    """

    epochs: int = 30
    rate: float = 3e-3
    batch: int = 64
    smoothing: float = 0.1
    dropout: float = 0.2
    decay: float = 1e-2


def train_head(
    features: Floats, targets: npt.NDArray[np.int64], classes: int, weights: Floats, plan: HeadPlan, seed: int
) -> tuple[Floats, Floats, list[float]]:
    """Learn a dense layer by softmax regression.

    Args:
        features: float32, shape (n, d).
        targets: Class of each, shape (n,).
        classes: How many there are.
        weights: How much each picture counts, shape (n,), mean 1.
        plan: How.
        seed: Draws the order and the dropout.

    Returns:
        (kernel, float32, shape (d, classes); bias, shape (classes,); mean loss of each epoch).
    """
    rng = np.random.default_rng([seed, 1])
    count, width = features.shape
    kernel = rng.normal(0, 0.01, (width, classes)).astype(np.float32)
    bias = np.zeros(classes, np.float32)
    first, second = [np.zeros_like(kernel), np.zeros_like(bias)], [np.zeros_like(kernel), np.zeros_like(bias)]
    wanted = np.full((count, classes), plan.smoothing / classes, np.float32)
    wanted[np.arange(count), targets] += 1 - plan.smoothing
    steps_a_epoch = max(1, math.ceil(count / plan.batch))
    total, step, losses = plan.epochs * steps_a_epoch, 0, []
    for _ in range(plan.epochs):
        order, loss = rng.permutation(count), 0.0
        for start in range(0, count, plan.batch):
            at = order[start : start + plan.batch]
            kept = rng.random((len(at), width), dtype=np.float32) >= plan.dropout
            x: Floats = features[at] * kept.astype(np.float32) / np.float32(1 - plan.dropout)
            chances = _softmax(x @ kernel + bias)
            loss -= float((weights[at] * (wanted[at] * np.log(chances + 1e-9)).sum(1)).sum())
            error = weights[at, None] * (chances - wanted[at]) / np.float32(len(at))
            step += 1
            rate = plan.rate * 0.5 * (1 + math.cos(math.pi * (step - 1) / total))
            for place, (value, slope) in enumerate(((kernel, x.T @ error), (bias, error.sum(0)))):
                first[place] = 0.9 * first[place] + 0.1 * slope
                second[place] = 0.999 * second[place] + 0.001 * slope**2
                lift = rate * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
                value -= (lift * first[place] / (np.sqrt(second[place]) + 1e-8)).astype(np.float32)
            kernel -= np.float32(rate * plan.decay) * kernel
        losses.append(loss / count)
    return kernel, bias, losses


def _softmax(logits: Floats) -> Floats:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Floats = raised / raised.sum(axis=1, keepdims=True)
    return result
