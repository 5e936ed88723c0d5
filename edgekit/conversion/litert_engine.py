"""litert-quantizer, with the ranges that we measured.

By itself it averages ranges over the samples (0.95 moving average), which cost 9 to 20 points of agreement on
EfficientNet-Lite0; given the minimum and maximum it makes what TFLite's quantiser makes. Hence no calibration of its
own is run.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from edgekit.conversion.failures import failure
from edgekit.conversion.noise import captured
from edgekit.conversion.quantisation import Quantisation
from edgekit.conversion.ranges import read_ranges
from edgekit.errors import MissingPackageError


def quantise(calibrated: bytes, how: Quantisation, kept: tuple[str, ...]) -> bytes:
    """As `tflite_engine.quantise`.

    Raises:
        MissingPackageError: litert-quantizer is not installed.
        ConversionError: It refuses the model.
    """
    with captured() as log:
        try:
            from litert_quantizer import quantizer, recipe, recipe_manager
        except ImportError as cause:
            remedy = "pip install 'edgekit[litert-quantizer]'"
            raise MissingPackageError("litert-quantizer", "--engine litert", remedy) from cause
        try:
            steps: Any = recipe_manager.RecipeManager()
            steps.load_quantization_recipe(recipe.static_wi8_ai8())
            ranges = read_ranges(calibrated)
            statistics = {
                name: {"min": np.array([[low]], np.float32), "max": np.array([[high]], np.float32)}
                for name, (low, high) in ranges.items()
            }
            maker = quantizer.Quantizer(calibrated, steps.get_quantization_recipe())
            # Its progress bar goes to sys.stderr, which `captured` leaves to ours.
            with contextlib.redirect_stderr(io.StringIO()):
                made = maker.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
            return bytes(made.quantized_model)
        except Exception as cause:
            raise failure("quantise", cause, log.text()) from cause
