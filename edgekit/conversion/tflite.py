"""Keras to TFLite in three steps: lower to a float file, measure ranges on real crops, quantise.

The value between the last two is one float32 .tflite whose activations carry their measured minimum and maximum.
That file is the seam: passes may change its weights, and whatever turns it into integers stands behind
`quantisation.quantise`.

TFLiteConverter would do all three in one call, but lowers the model again for every scheme and shows no progress;
its own steps are called one by one instead, pinned to the TensorFlow version that pyproject.toml names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from edgekit.conversion.failures import failure
from edgekit.conversion.noise import captured, load_tensorflow
from edgekit.conversion.pinning import check_pin, span_all_levels
from edgekit.conversion.quantisation import check_integer, quantise
from edgekit.errors import UsageError
from edgekit_device import vision
from edgekit_device.contract.preprocess import Preprocess
from edgekit_device.infer.flatbuffer import read_model
from edgekit_device.vision import Pixels

# Which input and output types each scheme can have; the first is the default.
SCHEMES: dict[str, tuple[str, ...]] = {
    "int8": ("int8", "uint8", "float32"),
    "int16x8": ("int16", "float32"),
    "dynamic": ("float32",),
    "float16": ("float32",),
    "float32": ("float32",),
}
CALIBRATED = ("int8", "int16x8")

Progress = Callable[[str, int, int], None]


def convert_keras(
    model: Any,
    samples: Sequence[Pixels],
    preprocess: Preprocess,
    scheme: str = "int8",
    io: str | None = None,
    *,
    float_model: bytes | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Convert a Keras classifier.

    Args:
        model: One image in, one score vector out; any batch size, it is fixed at 1.
        samples: Crops to calibrate on, uint8, shape (preprocess.height, preprocess.width, preprocess.channels), in
            the model's colour order; read by the schemes in CALIBRATED only.
        preprocess: The model's preprocessing.
        scheme: A key of SCHEMES.
        io: Type of input and output; the first that the scheme allows when None.
        float_model: What `lower` made of the same model, to save lowering it again.
        progress: Called with ("lower" | "calibrate" | "quantise", done, total).

    Returns:
        The .tflite file; the same bytes from the same arguments.

    Raises:
        UsageError: No such scheme, or not with this `io`; the model or the samples do not fit the preprocessing.
        ConversionError: The converter refuses the model, or what it made is not what was asked for.
    """
    io = io_of(scheme, io)
    if scheme in CALIBRATED:
        check_samples(samples, preprocess)
    if scheme == "int8":
        float_model = float_model or lower(model, preprocess, progress=progress)
        return quantise(
            calibrate(float_model, samples, preprocess, progress=progress), preprocess, io, progress=progress
        )
    if scheme == "float32" and float_model:
        return float_model
    return lower(model, preprocess, scheme, samples, io, progress=progress)


def io_of(scheme: str, io: str | None) -> str:
    """The input and output type that a scheme gets.

    Raises:
        UsageError: No such scheme, or not with this type.
    """
    if scheme not in SCHEMES:
        raise UsageError(f"no scheme is called '{scheme}'; choose one of {', '.join(SCHEMES)}")
    allowed = SCHEMES[scheme]
    if io is not None and io not in allowed:
        raise UsageError(f"scheme {scheme} has {' or '.join(allowed)} in and out, not {io}")
    return io or allowed[0]


def lower(
    model: Any,
    preprocess: Preprocess,
    scheme: str = "float32",
    samples: Sequence[Pixels] = (),
    io: str = "float32",
    *,
    progress: Progress | None = None,
) -> bytes:
    """Make a .tflite of a Keras model with TFLiteConverter: float32, or a scheme that only it can make.

    Arguments, result and errors as in `convert_keras`; `scheme` is any but int8.
    """
    _report(progress, "lower", 0)
    tf = load_tensorflow()
    shape = (1, preprocess.height, preprocess.width, preprocess.channels)
    found = tuple(getattr(model, "input_shape", None) or ())
    if len(found) != 4 or any(have not in (None, need) for have, need in zip(found, shape, strict=True)):
        raise UsageError(f"the model reads {list(found)}, and its preprocessing makes {list(shape)}")
    with captured() as log:
        try:
            # A fixed batch lets the converter fold every shape computation: no SHAPE, PACK or STRIDED_SLICE is left.
            image = tf.TensorSpec(shape, tf.float32, name="image")
            graph = tf.function(lambda x: model(x, training=False), input_signature=[image]).get_concrete_function()
            converter = tf.lite.TFLiteConverter.from_concrete_functions([graph])
            _set_scheme(tf, converter, scheme, io, lambda: _batches(samples, preprocess, progress))
            data = bytes(converter.convert())
        except Exception as cause:
            raise failure("lower", cause, log.text()) from cause
    if scheme in CALIBRATED:
        info = read_model(data, "the converted model")
        check_integer(info, io)
        check_pin(info, preprocess)
    _report(progress, "lower", 1)
    return data


def calibrate(
    float_model: bytes, samples: Sequence[Pixels], preprocess: Preprocess, *, progress: Progress | None = None
) -> bytes:
    """Run the samples through a float model and note the range of every activation.

    Args:
        float_model: What `lower` made.
        samples: As in `convert_keras`.
        preprocess: The model's preprocessing.
        progress: Called with ("calibrate", done, total).

    Returns:
        The float model, each activation with its minimum and maximum over all samples.

    Raises:
        ConversionError: The model does not run on them.
    """
    load_tensorflow()
    with captured() as log:
        from tensorflow.lite.python.optimize import calibrator

        try:
            runner = calibrator.Calibrator(calibrator.add_intermediate_tensors(float_model))
            return bytes(runner.calibrate(lambda: _batches(samples, preprocess, progress)))
        except Exception as cause:
            raise failure("calibrate", cause, log.text()) from cause


def _set_scheme(tf: Any, converter: Any, scheme: str, io: str, dataset: Callable[[], Iterator[list[Any]]]) -> None:
    if scheme == "float32":
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if scheme == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if scheme == "int16x8":
        converter.representative_dataset = dataset
        wanted = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        converter.target_spec.supported_ops = [wanted]
        converter.inference_input_type = converter.inference_output_type = getattr(tf, io)


def _batches(samples: Sequence[Pixels], preprocess: Preprocess, progress: Progress | None) -> Iterator[list[Any]]:
    """One batch of one at a time, float32, normalised by the table that a float model gets on the board."""
    real = preprocess.quantised("float32", 0.0, 0)
    spanning = span_all_levels(samples, preprocess)
    for done, pixels in enumerate(spanning):
        _report(progress, "calibrate", done, len(samples))
        yield [np.ascontiguousarray(vision.quantise(pixels, real)[None])]
    _report(progress, "calibrate", len(samples), len(samples))


def check_samples(samples: Sequence[Pixels], preprocess: Preprocess) -> None:
    """Refuse crops that are not what the model reads.

    Raises:
        UsageError: None at all, or another shape or type.
    """
    shape = (preprocess.height, preprocess.width, preprocess.channels)
    if not samples:
        raise UsageError("no crops to calibrate on")
    for pixels in samples:
        if pixels.shape != shape or pixels.dtype != np.uint8:
            raise UsageError(f"a crop to calibrate on is {pixels.dtype} {pixels.shape}, and must be uint8 {shape}")


def _report(progress: Progress | None, stage: str, done: int, total: int = 1) -> None:
    if progress:
        progress(stage, done, total)
