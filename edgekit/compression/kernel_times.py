"""Predicted milliseconds of a layer, from int8 kernels measured for one number of channels after the other.

Measured by `tools/run_benches.py --only prune --rows kernels` on x86-64 without AVX-512, XNNPACK, one thread. Kernels
work on whole tiles: a count between two of them costs what the next one costs. Another processor has other times;
shares of a whole net's hold better than its milliseconds. The processor of docs/results/prune.md has dot products of
int8 (VNNI), tiles of sixteen, and a depthwise multiply-add eight times as dear as a pointwise one, here three times.
"""

from __future__ import annotations

from edgekit.compression.choosing import Shape

# Channels a tile, and nanoseconds a multiply-add once counts are rounded up to whole tiles.
_TILE = 8
# The first convolution reads three colours, which fill no tile; a dense layer was not measured and counts as pointwise.
_NS = {"pointwise": 0.027, "convolution": 0.128, "depthwise": 0.075, "Dense": 0.027}


def predicted_ms(shape: Shape) -> float:
    """Milliseconds of one layer as int8 on XNNPACK, one thread."""
    made, read = _tiles(shape.channels_out), shape.channels_in
    if shape.kind == "DepthwiseConv2D":
        return shape.positions * shape.kernel**2 * made * _NS["depthwise"] / 1e6
    if shape.kind == "Dense":
        return _tiles(read) * made * _NS["Dense"] / 1e6
    kind = "pointwise" if shape.kernel == 1 else "convolution"
    # The three colours of an image are no tile of their own.
    read = _tiles(read) if read > 4 else read
    return shape.positions * shape.kernel**2 * read * made * _NS[kind] / 1e6


def _tiles(count: int) -> int:
    return -(-count // _TILE) * _TILE
