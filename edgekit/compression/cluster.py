"""Pass `cluster`: the weights of each layer share a few values, which learn; a zip of the model gets small.

Source: S. Han, H. Mao, W. Dally, "Deep compression", 2016: k-means with centroids that begin evenly between the
smallest and the largest weight, and are then taught with the sum of the gradients of their weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.compression.keras_graph import Operation, operations
from edgekit.compression.mending import TEACHING, MendingNetwork, mend, teacher_of, teaching_problem
from edgekit.compression.passes import Step, Subject, Value, Workshop
from edgekit.compression.sizes import sized
from edgekit_device.contract.preprocess import Preprocess

SUBJECT = None
DEFAULTS: dict[str, Value] = {"values": 32, **TEACHING}
_ROUNDS = 30
_CLUSTERED = ("Conv2D", "Dense")


def problem_with(step: Step) -> str | None:
    """What is wrong with the values of a step; None if nothing is."""
    if not 2 <= int(step.values["values"]) <= 256:
        return "values must lie between 2 and 256"
    return teaching_problem(step.values)


def share_values(weights: npt.NDArray[np.float32], count: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """k-means on a line.

    Args:
        weights: Any shape; those that are zero keep a centroid of their own, which is zero.
        count: Centroids at most, that of the zeros among them.

    Returns:
        (centroids by rising value, float32, shape (k,); index of each weight's centroid, int32, shape of weights).
    """
    flat = weights.astype(np.float64).ravel()
    sparse = bool((flat == 0).any())
    moving = flat[flat != 0] if sparse else flat
    several = max(1, count - sparse)
    centroids = np.unique(np.linspace(moving.min(), moving.max(), several)) if len(moving) else np.zeros(1)
    ordered = np.sort(moving)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    for _ in range(_ROUNDS):
        # On a line a centroid's own are those between the middles to its neighbours.
        ends = np.searchsorted(ordered, (centroids[1:] + centroids[:-1]) / 2)
        starts, stops = np.concatenate([[0], ends]), np.concatenate([ends, [len(ordered)]])
        filled = stops > starts
        moved = (sums[stops[filled]] - sums[starts[filled]]) / (stops[filled] - starts[filled])
        if len(moved) == len(centroids) and np.allclose(moved, centroids, rtol=0, atol=1e-9):
            break
        centroids = moved
    if sparse:
        centroids = np.sort(np.concatenate([centroids[centroids != 0], [0.0]]))
    middles = (centroids[1:] + centroids[:-1]) / 2
    index = np.searchsorted(middles, flat)
    if sparse:
        index[flat == 0] = int(np.flatnonzero(centroids == 0)[0])
    return centroids.astype(np.float32), index.astype(np.int32).reshape(weights.shape)


class ClusteredNetwork(MendingNetwork):
    """A classifier whose kernels take their values from a few that are taught.

    Attributes:
        centroids: Layer -> variable of its values.
    """

    def __init__(self, model: Any, preprocess: Preprocess, count: int) -> None:
        import keras

        super().__init__(model, preprocess, {})
        self._kernels = {op.name: op.layer.kernel for op in operations(model, "cluster") if op.kind in _CLUSTERED}
        self.centroids: dict[str, Any] = {}
        self._index: dict[str, npt.NDArray[np.int32]] = {}
        self._held: dict[str, npt.NDArray[np.float32]] = {}
        for name, kernel in self._kernels.items():
            values, index = share_values(kernel.numpy(), count)
            self.centroids[name] = keras.Variable(values, name=f"{name}_values")
            self._index[name] = index
            self._held[name] = (values != 0).astype(np.float32)

    @property
    def trained(self) -> Sequence[Any]:
        """The shared values, and what is in no kernel of them."""
        shared = {id(kernel) for kernel in self._kernels.values()}
        return [v for v in self.model.trainable_variables if id(v) not in shared] + list(self.centroids.values())

    @property
    def state(self) -> Sequence[Any]:
        """Every variable of the model, and the shared values."""
        return [*self.model.variables, *self.centroids.values()]

    def kernel_of(self, op: Operation) -> Any:
        """A kernel looked up in its values."""
        import tensorflow as tf

        if op.name not in self.centroids:
            return None
        return tf.gather(self.centroids[op.name].value * self._held[op.name], self._index[op.name])

    def settle_masks(self) -> None:
        """Write the shared values into the model."""
        for name, kernel in self._kernels.items():
            kernel.assign((self.centroids[name].numpy() * self._held[name])[self._index[name]])


def cluster(subject: Subject, step: Step, workshop: Workshop) -> Subject:
    """Share values, then teach them; the model is changed in place.

    Raises:
        PassError: There is nothing to learn from.
    """
    return sized(subject, "cluster", lambda: _cluster(subject, step, workshop))


def _cluster(subject: Subject, step: Step, workshop: Workshop) -> Subject:
    teacher = teacher_of(subject, step, workshop)
    network = ClusteredNetwork(subject.model, subject.preprocess, int(step.values["values"]))
    mend(subject, network, teacher, step, workshop, epochs=int(step.values["epochs"]), stage="cluster")
    network.settle_masks()
    notes = [f"each layer has at most {step.values['values']} values; the gain is in a zip, no rung gets faster"]
    return replace(subject, facts={**subject.facts, "notes": notes})
