"""A converted model gets its names: metadata and labels inside the file, read by MediaPipe Tasks and Netron."""

from __future__ import annotations

from edgekit.origins import Origin
from edgekit_device.infer.flatbuffer import ModelInfo


def label_model(data: bytes, info: ModelInfo, origin: Origin, scheme: str) -> tuple[bytes, tuple[str, ...]]:
    """Put metadata into a model and its labels behind it.

    Args:
        data: The .tflite file.
        info: What it declares.
        origin: Where it came from; its labels may be None.
        scheme: As converted.

    Returns:
        (the file; its labels, empty if they are not known).

    Raises:
        LabelsError: The labels cannot be the model's.
    """
    from edgekit.bundling.labels import check_labels
    from edgekit.conversion.metadata import Facts, with_metadata

    classes = max(info.main.outputs[0].shape)
    names = check_labels(origin.labels, classes=classes).names if origin.labels else ()
    source = str(origin.weights.get("source") or "")
    facts = Facts(
        name=origin.variant or source or "classifier",
        description=f"Image classifier of {classes} classes, {scheme}; made by EdgeKit",
        preprocess=origin.preprocess,
        labels=names,
        licence=str(origin.weights.get("licence") or ""),
    )
    return with_metadata(data, facts), names
