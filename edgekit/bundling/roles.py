"""Which model file fits which role, read from the flatbuffer before any interpreter sees it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from edgekit.errors import WrongRoleError
from edgekit_device.contract.errors import NotAClassifierError, ShapeError
from edgekit_device.contract.preprocess import DTYPES
from edgekit_device.infer.flatbuffer import read_model

if TYPE_CHECKING:
    from edgekit_device.contract.preprocess import Preprocess
    from edgekit_device.infer.flatbuffer import ModelInfo, TensorInfo


@dataclass(frozen=True)
class Classifier:
    """A model that is one image in, one score vector out.

    Attributes:
        input: The image tensor, shape (1, height, width, channels).
        classes: Length of the score vector.
        compiled: Whether the Edge TPU compiler made it.
    """

    input: TensorInfo
    classes: int
    compiled: bool

    def fitted(self, preprocess: Preprocess, name: str) -> Preprocess:
        """The preprocessing in front of this model's input tensor, whatever tensor it was stated for.

        Raises:
            ShapeError: It makes images of another size, or of another number of channels.
        """
        wanted = (1, preprocess.height, preprocess.width, preprocess.channels)
        if self.input.shape != wanted:
            raise ShapeError(
                f"{name} reads {list(self.input.shape)}, the preprocessing makes {list(wanted)}; "
                "name the one that the model was trained with: --preprocess tf-lite|timm|FILE"
            )
        if self.input.dtype == "float32":
            return preprocess.quantised("float32", 0.0, 0)
        # Whole numbers without a grid are the numbers themselves.
        scale, zero_point = (*self.input.scales, 1.0)[0], (*self.input.zero_points, 0)[0]
        return replace(preprocess, dtype=self.input.dtype, scale=float(scale), zero_point=int(zero_point))


def read_classifier(model: bytes, name: str) -> Classifier:
    """Check that a model is a classifier EdgeKit can run.

    Raises:
        ModelFormatError: Not a TFLite file.
        NotAClassifierError: Other inputs or outputs than one image and one score vector.
    """
    return classifier_of(read_model(model, name), name)


def classifier_of(info: ModelInfo, name: str) -> Classifier:
    """The same for a model that was read before."""
    inputs, outputs = info.main.inputs, info.main.outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise NotAClassifierError(name, f"it has {len(inputs)} inputs and {len(outputs)} outputs")
    image, scores = inputs[0], outputs[0]
    if len(image.shape) != 4 or image.shape[0] != 1 or image.shape[3] not in (1, 3):
        raise NotAClassifierError(name, f"its input has shape {list(image.shape)}")
    if image.dtype not in DTYPES:
        raise NotAClassifierError(name, f"its input is {image.dtype}, not one of {', '.join(DTYPES)}")
    # (1, 1001), (1001,) and (1, 1, 1, 1001) are vectors; (1, 7, 7, 3) is a map.
    classes = max(scores.shape, default=0)
    if classes < 1 or prod(scores.shape) != classes:
        raise NotAClassifierError(name, f"its output has shape {list(scores.shape)}")
    return Classifier(image, classes, info.is_edgetpu_compiled)


def check_twins(cpu: Classifier, edgetpu: Classifier | None, cpu_name: str, edgetpu_name: str) -> None:
    """Check that each file fills its role, and that both are the same classifier from outside.

    Raises:
        WrongRoleError: They were swapped, or they do not belong together.
    """
    if cpu.compiled:
        raise WrongRoleError(cpu_name, "cpu", "it is compiled for the Edge TPU and runs nowhere else")
    if edgetpu is None:
        return
    if not edgetpu.compiled:
        raise WrongRoleError(edgetpu_name, "edgetpu", "it is not compiled for the Edge TPU")
    if edgetpu.input.shape != cpu.input.shape or edgetpu.classes != cpu.classes:
        raise WrongRoleError(
            edgetpu_name,
            "edgetpu",
            f"it reads {list(edgetpu.input.shape)} and scores {edgetpu.classes} classes, its CPU twin "
            f"{list(cpu.input.shape)} and {cpu.classes}",
        )
