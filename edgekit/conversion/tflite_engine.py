"""TFLite's own quantiser, as it comes with TensorFlow."""

from __future__ import annotations

from edgekit.conversion.failures import failure
from edgekit.conversion.noise import captured, load_tensorflow
from edgekit.conversion.quantisation import Quantisation


def quantise(calibrated: bytes, how: Quantisation, kept: tuple[str, ...]) -> bytes:
    """Make integers of a float model with ranges.

    Args:
        calibrated: The float model.
        how: What to make.
        kept: Names of the tensors whose operators stay in float.

    Raises:
        ConversionError: The quantiser refuses the model.
    """
    tf = load_tensorflow()
    with captured() as log:
        from tensorflow.lite.python import convert as stages

        kind = getattr(tf, how.io)
        try:
            return bytes(
                stages.mlir_quantize(
                    calibrated,
                    disable_per_channel=how.granularity == "tensor",
                    disable_per_channel_for_dense_layers="FULLY_CONNECTED" in how.per_tensor,
                    input_data_type=kind,
                    output_data_type=kind,
                    denylisted_nodes=list(kept) or None,
                )
            )
        except Exception as cause:
            raise failure("quantise", cause, log.text()) from cause
