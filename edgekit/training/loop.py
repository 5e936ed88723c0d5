"""The one loop that teaches: AdamW, a cosine, checkpoints after each epoch, early stopping. Seeded from end to end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import TrainingError
from edgekit.learning import Advancing, Lessons, Network, Objective, Places, Plan, Progress
from edgekit.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

Batch = tuple[npt.NDArray[Any], ...]


class Loop:
    """Teaches networks one after the other, each under its stage's name.

    Attributes:
        checkpoint: Its file; None to keep nothing.
        fingerprint: What the checkpoint must belong to.
    """

    def __init__(self, checkpoint: Path | None = None, fingerprint: str = "", progress: Progress | None = None) -> None:
        self.checkpoint, self.fingerprint, self.progress = checkpoint, fingerprint, progress

    def __call__(
        self, network: Network, lessons: Lessons, plan: Plan, objective: Objective, *, stage: str
    ) -> list[dict[str, float]]:
        """Teach a network in place; see `edgekit.learning.Fit`.

        Raises:
            TrainingError: The loss is no longer a number, or there is nothing to learn from.
        """
        if not len(lessons.train):
            raise TrainingError("there is no picture to learn from", "add some")
        step, optimizer = _step(network, plan, objective, lessons)
        run = compiled(network, lessons)
        kept = read_checkpoint(self.checkpoint, f"{self.fingerprint}:{stage}") if self.checkpoint else None
        state = [*network.state, *optimizer.variables]
        history: list[dict[str, float]] = []
        best: list[npt.NDArray[Any]] | None = None
        before: float | None = None
        if kept:
            _assign(state, kept.state)
            history, best = kept.history, kept.best
        elif plan.patience and len(lessons.monitor):
            # Where it begins may be the best there is: steps that are too large only lead away from it.
            before, _ = _judge(run, lessons, plan.batch)
            best = [variable.numpy() for variable in network.state]
        for epoch in range(len(history), plan.epochs):
            if _is_over(history, plan):
                break
            began = time.monotonic()
            advance = network.advance if isinstance(network, Advancing) else None
            loss = self._epoch(step, optimizer, lessons, plan, objective, epoch, stage, advance)
            entry = {"epoch": epoch + 1.0, "loss": loss, "rate": float(optimizer.learning_rate.numpy())}
            if len(lessons.monitor):
                entry["monitor_loss"], entry["monitor_top1"] = _judge(run, lessons, plan.batch)
            if before is not None and not history:
                entry["monitor_loss_before"] = before
            entry["seconds"] = time.monotonic() - began
            history.append(entry)
            if plan.patience and _best(history) == len(history) - 1:
                best = [variable.numpy() for variable in network.state]
            if self.checkpoint:
                found = Checkpoint(
                    f"{self.fingerprint}:{stage}", [variable.numpy() for variable in state], best, history
                )
                write_checkpoint(self.checkpoint, found)
        if plan.patience and best is not None:
            _assign(network.state, best)
        return history

    def _epoch(
        self,
        step: Any,
        optimizer: Any,
        lessons: Lessons,
        plan: Plan,
        objective: Objective,
        epoch: int,
        stage: str,
        advance: Callable[[int, int], None] | None,
    ) -> float:
        order = np.random.default_rng([plan.seed, 2, epoch]).permutation(lessons.train)
        parts = [order[start : start + plan.batch] for start in range(0, len(order), plan.batch)]
        view = epoch % plan.views if plan.views else epoch
        total, at = plan.epochs * len(parts), epoch * len(parts)
        # Fetched only when the next step has begun: reading the loss of each step would stop the pipeline.
        losses: list[Any] = []
        for number, batch in enumerate(_ahead(parts, lambda places: make_batch(places, lessons, objective, view))):
            if advance:
                advance(at + number, total)
            optimizer.learning_rate.assign(rate_at(at + number, total, plan))
            losses.append(step(*batch))
            if self.progress:
                self.progress(stage, at + number + 1, total)
        values = np.array([float(loss) for loss in losses])
        if not np.isfinite(values).all():
            raise TrainingError(f"the loss of '{stage}' is not a number in epoch {epoch + 1}", "take a smaller rate")
        return float(np.average(values, weights=[len(part) for part in parts]))


def make_batch(places: Places, lessons: Lessons, objective: Objective, view: int) -> Batch:
    """Pictures, classes, weights and extras of one step."""
    extras = objective.extras(places, view) if objective.extras else ()
    return lessons.changed(places, view), lessons.targets[places], lessons.weights[places], *extras


def rate_at(step: int, total: int, plan: Plan) -> float:
    """Step size: a straight line up, then a cosine down to nothing."""
    rising = max(1, round(plan.warmup * total))
    if step < rising:
        return plan.rate * (step + 1) / rising
    return plan.rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, total - rising)))


def _is_over(history: Sequence[dict[str, float]], plan: Plan) -> bool:
    return bool(plan.patience and history) and len(history) - 1 - _best(history) >= plan.patience


def _best(history: Sequence[dict[str, float]]) -> int:
    """Place of the best epoch; -1 where what it began with was better than any."""
    found = min(range(len(history)), key=lambda at: (history[at].get("monitor_loss", -at), at))
    return -1 if history[0].get("monitor_loss_before", math.inf) < history[found].get("monitor_loss", 0) else found


def _assign(variables: Sequence[Any], values: Sequence[npt.NDArray[Any]]) -> None:
    if len(variables) != len(values) or any(
        tuple(variable.shape) != value.shape for variable, value in zip(variables, values, strict=True)
    ):
        raise TrainingError("the checkpoint is another model's", "start anew with --force")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _ahead(parts: Sequence[Places], make: Callable[[Places], Batch]) -> Any:
    """Batches, the next one being made while the last one is learnt."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting = pool.submit(make, parts[0])
        for following in parts[1:]:
            ready = waiting.result()
            waiting = pool.submit(make, following)
            yield ready
        yield waiting.result()


def _step(network: Network, plan: Plan, objective: Objective, lessons: Lessons) -> tuple[Any, Any]:
    import keras
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        # Sums on a GPU come in any order; on a CPU the same seed gives the same bytes without this.
        tf.config.experimental.enable_op_determinism()
    optimizer = keras.optimizers.AdamW(plan.rate, weight_decay=plan.decay, global_clipnorm=5.0)
    trained = list(network.trained)
    optimizer.exclude_from_weight_decay(var_list=[variable for variable in trained if len(variable.shape) < 2])
    optimizer.build(trained)
    spec = lessons.preprocess
    signature = [
        tf.TensorSpec((None, spec.height, spec.width, spec.channels), tf.uint8),
        tf.TensorSpec((None,), tf.int64),
        tf.TensorSpec((None,), tf.float32),
        *(tf.TensorSpec((None, *shape), kind) for kind, shape in objective.kinds),
    ]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def step(images: Any, targets: Any, weights: Any, *extras: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = objective.loss(network.outputs(images, training=True), targets, weights, extras)
        values = [variable.value for variable in trained]
        optimizer.apply(tape.gradient(loss, values), trained)
        return loss

    return step, optimizer


Run = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def compiled(network: Network, lessons: Lessons, output: str = "logits") -> Run:
    """A network as a function of arrays: pixels uint8, shape (n, height, width, channels), to one of its outputs."""
    import tensorflow as tf

    spec = lessons.preprocess
    signature = [tf.TensorSpec((None, spec.height, spec.width, spec.channels), tf.uint8)]
    graph = tf.function(lambda images: network.outputs(images, training=False)[output], input_signature=signature)
    return lambda pixels: np.asarray(graph(tf.constant(pixels)))


def answers(
    run: Run, lessons: Lessons, places: Places, batch: int = 32, *, stage: str = "", progress: Progress | None = None
) -> npt.NDArray[np.float32]:
    """What a network says of pictures as a board sees them: float32, shape (n, ...)."""
    found = []
    for start in range(0, len(places), batch):
        found.append(run(lessons.exact(places[start : start + batch])))
        if progress:
            progress(stage, min(start + batch, len(places)), len(places))
    return np.concatenate(found)


def _judge(run: Run, lessons: Lessons, batch: int) -> tuple[float, float]:
    """(mean cross-entropy, share right) on the monitored pictures."""
    logits = answers(run, lessons, lessons.monitor, batch)
    targets = lessons.targets[lessons.monitor]
    raised = logits - logits.max(axis=1, keepdims=True)
    log_chances = raised - np.log(np.exp(raised).sum(axis=1, keepdims=True))
    each = -log_chances[np.arange(len(targets)), targets] * lessons.weights[lessons.monitor]
    return float(each.mean()), float((logits.argmax(axis=1) == targets).mean())
