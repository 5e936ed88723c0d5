"""Pass `cluster` on a small net: few values in each layer, in the int8 file as well."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgekit import compress, convert
from edgekit.compression.mending import zeros_of
from edgekit.compression.passes import Subject, parse_step, run_pass
from edgekit.errors import UsageError
from edgekit_device.infer.flatbuffer import constant, read_model
from tests.worlds.taught_nets import TaughtNet, right, shop_of

PRUNED = ("stem", "point", "last", "scores")


def deflated(data: bytes) -> int:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("weights", data)
    return len(held.getvalue())


def test_clustered_weights_share_values_and_zip_small(world: TaughtNet, tmp_path: Path) -> None:
    shop = shop_of(world.lessons, tmp_path)
    sparse = run_pass(world.subject(), parse_step("prune=weights:sparsity=0.5,epochs=2,rate=0.003"), shop)
    kept = zeros_of(sparse.model)
    done = run_pass(sparse, parse_step("cluster=values=16,epochs=4,rate=0.003"), shop)
    for name in PRUNED:
        kernel = done.model.get_layer(name).kernel.numpy()
        assert len(np.unique(kernel)) <= 16
        assert not kernel[~kept[name]].any()
    kernels = [[net.get_layer(name).kernel.numpy().tobytes() for name in PRUNED] for net in (world.cnn, done.model)]
    whole, small = (deflated(b"".join(parts)) for parts in kernels)
    assert small < 0.25 * whole
    assert right(done.model, world.lessons) > right(world.cnn, world.lessons) - 0.15
    assert shop.history["cluster"][-1]["loss"] < shop.history["cluster"][0]["loss"]
    assert isinstance(done, Subject) and done.facts["pruned"]["kind"] == "weights+cluster"


def test_the_int8_file_has_few_values_in_each_channel_too_and_its_zip_is_small(
    world: TaughtNet, tmp_path: Path
) -> None:
    """Rounding with feedback would part them: it leaves layers alone whose weights share values."""
    made = compress(world.net, out=tmp_path / "few", **world.asked("cluster=values=8,epochs=1"))
    stated = world.asked()["preprocess"]
    few = convert(made.folder, out=tmp_path / "few.tflite").path.read_bytes()
    many = convert(world.net, out=tmp_path / "many.tflite", preprocess=stated).path.read_bytes()
    weights = {}
    for name, data in (("few", few), ("many", many)):
        info = read_model(data, name)
        tensors = [info.main.tensors[op.inputs[1]] for op in info.main.operators if op.name == "CONV_2D"]
        weights[name] = [np.frombuffer(constant(data, t), np.int8).reshape(t.shape[0], -1) for t in tensors]
    assert max(len(np.unique(row)) for layer in weights["few"] for row in layer) <= 8
    assert max(len(np.unique(row)) for layer in weights["many"] for row in layer) > 30
    small, whole = (deflated(b"".join(layer.tobytes() for layer in weights[name])) for name in ("few", "many"))
    assert small < 0.7 * whole


def test_values_are_counted() -> None:
    with pytest.raises(UsageError, match="values must lie between 2 and 256"):
        parse_step("cluster=values=1")
