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
# The first convolution reads three colours, which fill no tile. Other large kernels run as the pointwise ones do, over
# indirect addresses, and count as they do, and so does a dense layer.
_NS = {"mixing": 0.027, "colours": 0.128, "depthwise": 0.075}
_COLOURS = 4


def predicted_ms(shape: Shape) -> float:
    """Milliseconds of one layer as int8 on XNNPACK, one thread."""
    made, read = _tiles(shape.channels_out), shape.channels_in
    if shape.kind == "DepthwiseConv2D":
        return shape.positions * shape.kernel**2 * made * _NS["depthwise"] / 1e6
    if read <= _COLOURS and shape.kind == "Conv2D" and shape.kernel > 1:
        return shape.positions * shape.kernel**2 * read * made * _NS["colours"] / 1e6
    return shape.positions * shape.kernel**2 * _tiles(read) * made * _NS["mixing"] / 1e6


def _tiles(count: int) -> int:
    return -(-count // _TILE) * _TILE
