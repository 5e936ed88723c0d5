"""What `edgekit models` lists, from the recipes and the architecture's arithmetic alone."""

from __future__ import annotations

from typing import Any

from edgekit.zoo.counts import variant_macs, variant_parameters
from edgekit.zoo.variants import get_variant, variant_names


def describe() -> list[dict[str, Any]]:
    """One entry a variant.

    Returns:
        ``name``; ``parameters`` (without moving statistics); ``macs`` at ``resolution`` (pixels); ``top1_published``
        (percent, float) and ``top1_resolution`` (pixels where it is reproduced: not always the variant's own);
        ``weights`` (the pinned pip requirement, or None where the user brings a file).
    """
    listed = []
    for name in variant_names():
        variant = get_variant(name)
        listed.append(
            {
                "name": name,
                "parameters": variant_parameters(variant),
                "macs": variant_macs(variant),
                "resolution": variant.resolution,
                "top1_published": variant.top1_published,
                "top1_resolution": variant.published.top1_resolution if variant.published else None,
                "weights": variant.weights.requirement if variant.weights else None,
            }
        )
    return listed
