"""One classifier on one interpreter: bytes in, scores out.

This module is the only one that imports an interpreter. A model is always given as verified bytes, never as a
path, so that what was hashed is what runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit_device.contract.errors import DelegateError, MissingPackageError, NotAClassifierError, ShapeError
from edgekit_device.infer import edgetpu

Tensor = npt.NDArray[Any]
Scores = npt.NDArray[np.float32]

# Newest first: an old runtime saturates some models without a word, a new one reads old models.
INTERPRETERS = {
    "ai_edge_litert": "ai_edge_litert.interpreter",
    "tflite_runtime": "tflite_runtime.interpreter",
}
# The resolver that each rung of the ladder stands for; `reference` is for debugging only.
RUNGS = {
    "edgetpu": "AUTO",
    "xnnpack": "AUTO",
    "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
}


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a model; real value = scale * (q - zero_point), scale 0 for float."""

    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


def find_interpreter() -> tuple[str, Any]:
    """Import the first interpreter that is installed.

    Returns:
        (name, module).

    Raises:
        MissingPackageError: None is installed.
    """
    for name, module in INTERPRETERS.items():
        try:
            return name, import_module(module)
        except ImportError:
            continue
    raise MissingPackageError("a TFLite interpreter", "running a model", "pip install 'edgekit-device[litert]'")


def _spec(detail: dict[str, Any]) -> TensorSpec:
    scale, zero_point = detail["quantization"]
    return TensorSpec(
        tuple(int(n) for n in detail["shape"]), np.dtype(detail["dtype"]).name, float(scale), int(zero_point)
    )


class Engine:
    """A TFLite classifier, ready to be invoked.

    Attributes:
        input: The image tensor, shape (1, height, width, channels).
        output: The score tensor, shape (1, classes) or (classes,).
        delegate: The rung that serves.
        threads: Interpreter threads.
        interpreter: Which interpreter package runs it.
    """

    def __init__(self, model: bytes, *, delegate: str = "xnnpack", threads: int = 1, name: str = "model") -> None:
        if delegate not in RUNGS:
            raise DelegateError(delegate, f"unknown delegate; choose one of {', '.join(RUNGS)}")
        self.interpreter, module = find_interpreter()
        # The delegate is held as long as the interpreter that computes with it.
        self._delegates = [edgetpu.open_delegate(module)] if delegate == edgetpu.NAME else []
        try:
            self._run = module.Interpreter(
                model_content=model,
                num_threads=threads,
                experimental_delegates=self._delegates or None,
                experimental_op_resolver_type=getattr(module.OpResolverType, RUNGS[delegate]),
            )
            self._run.allocate_tensors()
        except (ValueError, RuntimeError) as cause:
            raise DelegateError(delegate, f"cannot load {name}: {_first_line(cause)}") from cause
        inputs, outputs = self._run.get_input_details(), self._run.get_output_details()
        if len(inputs) != 1 or len(outputs) != 1:
            raise NotAClassifierError(name, f"it has {len(inputs)} inputs and {len(outputs)} outputs")
        self.input, self.output = _spec(inputs[0]), _spec(outputs[0])
        self.delegate, self.threads = delegate, threads
        self._input_index, self._output_index = inputs[0]["index"], outputs[0]["index"]
        shape = self.input.shape
        if len(shape) != 4 or shape[0] != 1 or shape[3] not in (1, 3):
            raise NotAClassifierError(name, f"its input has shape {list(shape)}")
        if int(np.prod(self.output.shape)) != max(self.output.shape, default=0):
            raise NotAClassifierError(name, f"its output has shape {list(self.output.shape)}")

    @property
    def classes(self) -> int:
        """Length of the score vector."""
        return int(np.prod(self.output.shape))

    def raw(self, tensor: Tensor) -> Tensor:
        """Run one inference.

        Args:
            tensor: Shape and dtype of `input`.

        Returns:
            The output as the model writes it, shape (classes,), a copy.

        Raises:
            ShapeError: Another shape or dtype.
        """
        if tensor.shape != self.input.shape or tensor.dtype.name != self.input.dtype:
            raise ShapeError(
                f"the model reads {self.input.dtype} {list(self.input.shape)}, got {tensor.dtype} {list(tensor.shape)}"
            )
        self._run.set_tensor(self._input_index, tensor)
        self._run.invoke()
        output: Tensor = self._run.get_tensor(self._output_index)
        return output.reshape(-1)

    def load(self, write: Callable[[Tensor], object]) -> None:
        """Let a function write the input where the interpreter reads it.

        Args:
            write: Called with the input tensor itself, of shape and dtype `input`; must not keep it, because an
                interpreter does not run while somebody holds its memory.
        """
        write(self._run.tensor(self._input_index)())

    def invoke(self) -> Scores:
        """Run one inference on what `load` wrote.

        Returns:
            float32, shape (classes,).
        """
        self._run.invoke()
        return dequantise(self._run.get_tensor(self._output_index).reshape(-1), self.output)

    def scores(self, tensor: Tensor) -> Scores:
        """Run one inference and dequantise.

        Returns:
            float32, shape (classes,).
        """
        return dequantise(self.raw(tensor), self.output)


def dequantise(values: Tensor, spec: TensorSpec) -> Scores:
    """Real values of a tensor: scale * (q - zero_point); float tensors pass through.

    Returns:
        float32, same shape.
    """
    if spec.scale == 0.0:
        return values.astype(np.float32, copy=False)
    return (values.astype(np.float32) - np.float32(spec.zero_point)) * np.float32(spec.scale)


def _first_line(cause: BaseException) -> str:
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]
