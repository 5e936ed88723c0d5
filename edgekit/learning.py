"""What training and the passes share: the lessons, the plan, what can be taught, and the teacher's loop as a type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from edgekit_device.contract.preprocess import Preprocess

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]
Progress = Callable[[str, int, int], None]
UNLABELLED = -1


@dataclass(frozen=True)
class Lessons:
    """Pictures to learn from, with what is known about them.

    Attributes:
        exact: places -> what a board sees, uint8, shape (n, height, width, channels).
        changed: (places, view) -> the same pictures augmented; the same view gives the same bytes.
        train: Places of the pictures that are learnt from.
        monitor: Places of those that early stopping watches; may be empty.
        targets: Class of every picture, UNLABELLED where none is known.
        weights: How much every picture counts; mean 1 over the labelled ones of `train`.
        labels: One a class.
        preprocess: The model's preprocessing, float input.
        key: Names the pictures and how they are augmented, for caches.
    """

    exact: Callable[[Places], Pixels]
    changed: Callable[[Places, int], Pixels]
    train: Places
    monitor: Places
    targets: Places
    weights: Floats
    labels: tuple[str, ...]
    preprocess: Preprocess
    key: str

    def labelled(self) -> Lessons:
        """Without the pictures whose class is not known."""
        return replace(self, train=self.train[self.targets[self.train] != UNLABELLED])


@dataclass(frozen=True)
class Plan:
    """How a network is taught.

    Attributes:
        epochs: Times it sees every picture.
        rate: AdamW's largest step size, reached after the warm-up; a cosine takes it to nothing.
        batch: Pictures a step.
        warmup: Share of the steps in which the rate rises.
        smoothing: Share of the target spread over all classes.
        decay: Pull of kernels towards nothing.
        patience: Epochs without a better loss on the monitored pictures until it stops; 0 never stops. What is kept is
            the best of them all, what it began with among them.
        views: Augmented views that epochs take in turn; 0 for a new one each epoch.
        seed: Draws order and augmentation.
    """

    epochs: int = 10
    rate: float = 5e-4
    batch: int = 32
    warmup: float = 0.1
    smoothing: float = 0.1
    decay: float = 1e-4
    patience: int = 0
    views: int = 0
    seed: int = 0


class Network(Protocol):
    """Something that can be taught."""

    @property
    def trained(self) -> Sequence[Any]:
        """The ``keras.Variable`` that gradients change."""

    @property
    def state(self) -> Sequence[Any]:
        """Every variable that a checkpoint must hold, the trained ones included; always in the same order."""

    def outputs(self, images: Any, *, training: bool) -> Mapping[str, Any]:
        """Run it.

        Args:
            images: Tensor, uint8, shape (batch, height, width, channels).
            training: Whether this is a step of training.

        Returns:
            ``logits``, shape (batch, classes), and whatever else the objective asks for.
        """


@runtime_checkable
class Advancing(Protocol):
    """A network that is changed while it is taught, as one whose masks grow."""

    def advance(self, step: int, total: int) -> None:
        """Called before each step of training, of which there are `total`."""


Loss = Callable[[Mapping[str, Any], Any, Any, Sequence[Any]], Any]


@dataclass(frozen=True)
class Objective:
    """What is made small.

    Attributes:
        loss: (outputs, targets, weights, extras) -> a scalar tensor.
        extras: (places, view) -> arrays that belong to those pictures, a teacher's answers for example.
        kinds: dtype and shape behind the batch axis of each of the extras.
    """

    loss: Loss
    extras: Callable[[Places, int], Sequence[npt.NDArray[Any]]] | None = None
    kinds: tuple[tuple[str, tuple[int, ...]], ...] = field(default=())


class Fit(Protocol):
    """The loop: teaches, writes checkpoints, goes on where it was killed."""

    def __call__(
        self, network: Network, lessons: Lessons, plan: Plan, objective: Objective, *, stage: str
    ) -> list[dict[str, float]]:
        """Teach a network in place.

        Returns:
            One entry an epoch: ``epoch``, ``loss``, ``rate``, ``seconds`` and, with monitored pictures,
            ``monitor_loss`` and ``monitor_top1``.
        """


def cross_entropy(smoothing: float) -> Loss:
    """Softmax cross-entropy, each picture with its weight; those without a label count nothing."""

    def loss(outputs: Mapping[str, Any], targets: Any, weights: Any, extras: Sequence[Any]) -> Any:
        import tensorflow as tf

        logits = outputs["logits"]
        classes = logits.shape[-1]
        known = tf.cast(targets >= 0, tf.float32)
        wanted = tf.one_hot(tf.maximum(targets, 0), classes) * (1 - smoothing) + smoothing / classes
        each = tf.nn.softmax_cross_entropy_with_logits(wanted, logits)
        return tf.reduce_sum(each * weights * known) / tf.maximum(tf.reduce_sum(known), 1.0)

    return loss


def balanced_weights(targets: Places, train: Places, classes: int) -> Floats:
    """Weights under which every class counts the same; mean 1 over the labelled pictures of `train`."""
    known = targets[train][targets[train] >= 0]
    counts = np.maximum(np.bincount(known, minlength=classes), 1)
    found = int((np.bincount(known, minlength=classes) > 0).sum())
    each = (len(known) / (max(1, found) * counts)).astype(np.float32)
    weights: Floats = np.where(targets >= 0, each[np.maximum(targets, 0)], 1.0).astype(np.float32)
    return weights
