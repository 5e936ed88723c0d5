"""The seam: a float .tflite whose activations carry their ranges goes in, integers come out.

Two engines can stand behind it. TFLite's quantiser comes with TensorFlow and is in maintenance; litert-quantizer is
its successor. Each gets the same ranges, so that what one makes can be held against the other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module

from edgekit.conversion.pinning import check_pin
from edgekit.errors import ConversionError, UsageError, near_miss
from edgekit_device.contract.preprocess import Preprocess
from edgekit_device.infer.flatbuffer import ModelInfo, read_model
from edgekit_device.infer.operators import FLOAT_TYPES

ENGINES = {
    "tflite": "edgekit.conversion.tflite_engine:quantise",
    "litert": "edgekit.conversion.litert_engine:quantise",
}
GRANULARITIES = ("channel", "tensor")
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")

Progress = Callable[[str, int, int], None]
Engine = Callable[[bytes, "Quantisation", tuple[str, ...]], bytes]


@dataclass(frozen=True)
class Quantisation:
    """How integers are to be made.

    Attributes:
        io: ``int8``, ``uint8`` or ``float32``: type of input and output.
        granularity: One weight scale per ``channel`` or per ``tensor``.
        keep_float: Layers that stay in float, by name: ``block1a_depthwise``.
        edgetpu: As the Edge TPU compiler of 2021 wants it: one scale for the weights of a dense layer.
        engine: A key of ENGINES.
    """

    io: str = "int8"
    granularity: str = "channel"
    keep_float: tuple[str, ...] = ()
    edgetpu: bool = False
    engine: str = "tflite"

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            UsageError: An unknown name, or a combination that no engine makes.
        """
        if self.engine not in ENGINES:
            raise UsageError(f"no engine is called '{self.engine}'; choose one of {', '.join(ENGINES)}")
        if self.granularity not in GRANULARITIES:
            raise UsageError(f"weights have one scale a {' or a '.join(GRANULARITIES)}, not a {self.granularity}")
        if self.edgetpu and self.keep_float:
            raise UsageError("--for edgetpu and --keep-float exclude each other: an Edge TPU stops at the first float")
        if self.engine == "litert" and self.io != "int8":
            raise UsageError(f"litert-quantizer makes int8 in and out, not {self.io}; use --engine tflite")
        if self.engine == "litert" and (self.edgetpu or self.granularity == "tensor"):
            raise UsageError("litert-quantizer has one scale a channel here; use --engine tflite")

    @property
    def per_tensor(self) -> tuple[str, ...]:
        """Kinds of operators whose weights get one scale a tensor."""
        if self.granularity == "tensor":
            return _WEIGHTED
        return ("FULLY_CONNECTED",) if self.edgetpu else ()

    @property
    def is_plain(self) -> bool:
        """Whether every layer becomes integer."""
        return not self.keep_float


def quantise(
    calibrated: bytes, preprocess: Preprocess, how: Quantisation | str = "int8", *, progress: Progress | None = None
) -> bytes:
    """Make an int8 model.

    Args:
        calibrated: A float model with ranges, as `tflite.calibrate` returns it.
        preprocess: The model's preprocessing, to check that pixels land on the input's grid.
        how: What to make; a word alone is the type of input and output.
        progress: Called with ("quantise", done, 1).

    Raises:
        UsageError: The choices do not go together, or name a layer that is not there.
        MissingPackageError: The engine is not installed.
        ConversionError: An operator has no integer form, or the input scale is not the one the pixels need.
    """
    how = Quantisation(io=how) if isinstance(how, str) else how
    how.check()
    kept = find_layers(read_model(calibrated, "the float model"), how.keep_float)
    if progress:
        progress("quantise", 0, 1)
    module, name = ENGINES[how.engine].split(":")
    engine: Engine = getattr(import_module(module), name)
    data = engine(calibrated, how, kept)
    info = read_model(data, "the converted model")
    if how.is_plain:
        check_integer(info, how.io)
    check_pin(info, preprocess)
    if progress:
        progress("quantise", 1, 1)
    return data


def layer_names(tensor: str) -> tuple[str, ...]:
    """The layers that a tensor's name speaks of: converters fuse layers and join their names.

    ``lite0_1/stem_relu6_1/Relu6;lite0_1/stem_conv_1/convolution`` gives ``("stem_relu6", "stem_conv")``.
    """
    found: list[str] = []
    for part in tensor.split(";"):
        pieces = part.split("/")
        layer = re.sub(r"_\d+$", "", pieces[1] if len(pieces) > 2 else pieces[0])
        if layer and layer not in found:
            found.append(layer)
    return tuple(found)


def find_layers(info: ModelInfo, wanted: Iterable[str]) -> tuple[str, ...]:
    """The names of the tensors that these layers write.

    Args:
        info: The float model.
        wanted: Layers as Keras names them, or the beginning of such names: ``block1a`` is the whole block.

    Raises:
        UsageError: No layer has such a name.
    """
    outputs = [info.main.tensors[op.outputs[0]].name for op in info.main.operators]
    known = {name: layer_names(name) for name in outputs}
    found: list[str] = []
    for word in wanted:
        fits = [n for n, layers in known.items() if any(la == word or la.startswith(f"{word}_") for la in layers)]
        fits = fits or [n for n, layers in known.items() if any(layer.startswith(word) for layer in layers)]
        if not fits:
            every = sorted({layer for layers in known.values() for layer in layers})
            raise UsageError(f"--keep-float: no layer is called '{word}'{near_miss(word, every)}")
        found += [name for name in fits if name not in found]
    return tuple(found)


def check_integer(info: ModelInfo, io: str) -> None:
    """Refuse a model with float tensors within.

    A quantiser leaves what it cannot quantise in float and says nothing, so the file itself is asked.

    Raises:
        ConversionError: With the operators that stayed in float.
    """
    names: set[str] = set()
    floats = False
    for graph in info.subgraphs:
        ends = {*graph.input_indices, *graph.output_indices} if io == "float32" else set()
        own = {tensor.index for tensor in graph.tensors if tensor.dtype in FLOAT_TYPES} - ends
        names |= {op.name for op in graph.operators if own & {*op.inputs, *op.outputs}} - {"QUANTIZE", "DEQUANTIZE"}
        floats = floats or bool(own)
    if floats:
        raise ConversionError(
            "quantise",
            f"no integer form exists for {', '.join(sorted(names)) or 'part of the model'}",
            "replace the layer, or keep floats with --scheme dynamic or float16",
        )
