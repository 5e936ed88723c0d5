"""Metadata inside the model: independent readers find it, and the model computes what it did before."""

from __future__ import annotations

import importlib.util
import io
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import flatbuffers
import numpy as np
import pytest

from edgekit.conversion.metadata import ENTRY, Facts, metadata, read_packed_labels, with_metadata
from edgekit.data import data_path
from edgekit.errors import ConversionError, LabelsError
from edgekit.labelling import label_model
from edgekit.origins import Origin
from edgekit_device.contract.errors import ModelFormatError
from edgekit_device.infer.flatbuffer import constant, read_model
from edgekit_device.infer.interpreter import Engine
from tests.conftest import absent
from tests.worlds.shapes import FLOAT, INT8
from tools.make_device_fixture import PREPROCESS

LABELS = ("2 wheeler", "crane#1", "crane#2", "Brötchen 面包")
FACTS = Facts("toy", "Shapes.", PREPROCESS, LABELS, "somebody", "Apache-2.0")
INSTALL = "python -m venv .venv-mediapipe; pip install mediapipe==1.2.2 there; EDGEKIT_MEDIAPIPE_PYTHON=its python"


@pytest.fixture(params=[INT8, FLOAT], ids=["int8", "float"])
def model(request: pytest.FixtureRequest) -> bytes:
    return Path(request.param).read_bytes()


def test_the_model_computes_what_it_did_before_on_every_rung(model: bytes) -> None:
    made = with_metadata(model, FACTS)
    for rung in ("xnnpack", "builtin"):
        before, after = Engine(model, delegate=rung), Engine(made, delegate=rung)
        assert (before.input, before.output) == (after.input, after.output)
        tensor = np.random.default_rng(0).integers(-100, 100, before.input.shape).astype(before.input.dtype)
        assert np.array_equal(before.raw(tensor), after.raw(tensor))


def test_everything_else_in_the_file_is_kept_and_constants_stay_aligned(model: bytes) -> None:
    made = with_metadata(model, FACTS)
    before, after = read_model(model), read_model(made)
    assert (before.version, before.description, before.operator_counts) == (
        after.version,
        after.description,
        after.operator_counts,
    )
    assert set(after.metadata) == {*before.metadata, ENTRY}
    for ours, theirs in zip(before.main.tensors, after.main.tensors, strict=True):
        assert replace(ours, buffer_offset=0) == replace(theirs, buffer_offset=0)
        assert constant(model, ours) == constant(made, theirs)
        if ours.is_constant:
            assert (theirs.buffer_offset - ours.buffer_offset) % 16 == 0
    for name, (at, size) in before.metadata.items():
        moved, _ = after.metadata[name]
        assert model[at : at + size] == made[moved : moved + size]


def test_constants_stay_aligned_whatever_the_length_of_the_metadata(model: bytes) -> None:
    before = [tensor.buffer_offset for tensor in read_model(model).main.tensors if tensor.is_constant]
    for extra in range(0, 16, 3):
        after = read_model(with_metadata(model, replace(FACTS, description="x" * 20 * extra)))
        moved = [tensor.buffer_offset for tensor in after.main.tensors if tensor.is_constant]
        assert {(new - old) % 16 for new, old in zip(moved, before, strict=True)} == {0}
        assert after.metadata[ENTRY][0] % 16 == 0


def test_the_generated_reader_finds_every_table(model: bytes) -> None:
    """Google's own generated classes read the new root."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    made = with_metadata(model, FACTS)
    whole = schema.Model.GetRootAs(made, 0)
    before = schema.Model.GetRootAs(model, 0)
    assert whole.BuffersLength() == before.BuffersLength() + 1
    assert whole.OperatorCodesLength() == before.OperatorCodesLength()
    assert whole.SignatureDefsLength() == before.SignatureDefsLength()
    entry = whole.Metadata(whole.MetadataLength() - 1)
    assert entry.Name() == ENTRY.encode()
    content = whole.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
    assert content == metadata(FACTS)


def test_the_same_arguments_give_the_same_bytes(model: bytes) -> None:
    assert with_metadata(model, FACTS) == with_metadata(model, FACTS)


def test_labels_lie_behind_the_model_as_they_are(model: bytes) -> None:
    made = with_metadata(model, FACTS)
    assert read_packed_labels(made) == LABELS
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert archive.testzip() is None
        assert [entry.compress_type for entry in archive.infolist()] == [zipfile.ZIP_STORED]
    assert read_packed_labels(with_metadata(model, replace(FACTS, labels=()))) == ()
    assert read_packed_labels(model) == ()


def test_1001_labels_fit(model: bytes) -> None:
    many = tuple(f"class {i}" for i in range(1001))
    assert read_packed_labels(with_metadata(model, replace(FACTS, labels=many))) == many


def test_metadata_is_not_written_twice(model: bytes) -> None:
    with pytest.raises(ConversionError, match="has TFLITE_METADATA already"):
        with_metadata(with_metadata(model, FACTS), FACTS)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ModelFormatError):
        with_metadata(b"not a model at all", FACTS)


def test_the_metadata_is_a_flatbuffer_of_its_own() -> None:
    content = metadata(FACTS)
    assert flatbuffers.util.BufferHasIdentifier(content, 0, b"M001")


def origin(labels: tuple[str, ...] | None) -> Origin:
    return Origin(None, PREPROCESS, labels, None, {"source": "mine.keras", "licence": None}, None)


def test_duplicates_are_told_apart_and_names_of_other_tongues_are_kept(model: bytes) -> None:
    made, names = label_model(model, read_model(model), origin(("crane", "Brötchen", "crane", "3D-printer")), "int8")
    assert names == read_packed_labels(made) == ("crane#0", "Brötchen", "crane#2", "3D-printer")
    bare, none = label_model(model, read_model(model), origin(None), "int8")
    assert (none, read_packed_labels(bare)) == ((), ())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("cat", "2 wheeler", "dog", "bus"), "line 2 reads '2 wheeler', which other tools take for class 2"),
        (("cat", "dog", "bus"), "such models often have a class 0 called 'background'"),
        (("cat", "", "dog", "bus"), "line 2 is blank"),
    ],
)
def test_labels_that_cannot_be_the_models_are_refused_by_name(
    model: bytes, labels: tuple[str, ...], message: str
) -> None:
    with pytest.raises(LabelsError, match=message):
        label_model(model, read_model(model), origin(labels), "int8")


# What MediaPipe runs where it is installed: classify one photo, print the label; and print the metadata's own words.
_CLASSIFY = """
import sys
import mediapipe
from mediapipe.tasks.python import BaseOptions, vision
options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]), max_results=1)
with vision.ImageClassifier.create_from_options(options) as classifier:
    found = classifier.classify(mediapipe.Image.create_from_file(sys.argv[2]))
best = found.classifications[0].categories[0]
print(f"label={best.category_name} score={best.score:.3f}")
"""
_SCHEMA = "tasks/metadata/metadata_schema_py_generated.py"


def _mediapipe() -> str:
    python = os.environ.get("EDGEKIT_MEDIAPIPE_PYTHON")
    if python is None and importlib.util.find_spec("mediapipe") is not None:
        python = sys.executable
    if python is None:
        absent("MediaPipe Tasks", INSTALL)
    return str(python)


@pytest.fixture
def schema() -> ModuleType:
    code = "import importlib.util; print(importlib.util.find_spec('mediapipe').submodule_search_locations[0])"
    found = subprocess.run([_mediapipe(), "-c", code], capture_output=True, text=True, check=True)
    spec = importlib.util.spec_from_file_location("metadata_schema", Path(found.stdout.strip()) / _SCHEMA)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.oracle
def test_mediapipes_own_schema_reads_what_was_written(schema: ModuleType) -> None:
    read = schema.ModelMetadata.GetRootAs(metadata(FACTS), 0)
    assert (read.Name(), read.License(), read.MinParserVersion()) == (b"toy", b"Apache-2.0", b"1.0.0")
    graph = read.SubgraphMetadata(0)
    first, last = graph.InputTensorMetadata(0), graph.OutputTensorMetadata(0)
    assert first.Content().ContentPropertiesType() == schema.ContentProperties.ImageProperties
    image = schema.ImageProperties()
    table = first.Content().ContentProperties()
    image.Init(table.Bytes, table.Pos)
    assert image.ColorSpace() == schema.ColorSpaceType.RGB
    assert (image.DefaultSize().Height(), image.DefaultSize().Width()) == (32, 32)
    unit = first.ProcessUnits(0)
    assert unit.OptionsType() == schema.ProcessUnitOptions.NormalizationOptions
    options = schema.NormalizationOptions()
    options.Init(unit.Options().Bytes, unit.Options().Pos)
    assert options.MeanAsNumpy().tolist() == [127.0] * 3
    assert options.StdAsNumpy().tolist() == [128.0] * 3
    assert first.Stats().Max(0) == pytest.approx(1.0)
    assert first.Stats().Min(0) == pytest.approx(-127 / 128)
    labels = last.AssociatedFiles(0)
    assert labels.Name() == b"labels.txt"
    assert labels.Type() == schema.AssociatedFileType.TENSOR_AXIS_LABELS


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("words", [["--io", "uint8"], ["--scheme", "float32"]], ids=["uint8", "float32"])
def test_mediapipe_classifies_a_photo_with_a_converted_model(words: list[str], tmp_path: Path, need: object) -> None:
    from edgekit.cli import main

    python = _mediapipe()
    out = tmp_path / "lite0.tflite"
    assert main(["convert", "efficientnet-lite0", "-o", str(out), *words]) == 0
    photo = data_path("calibration_data", "coffee.jpg")
    done = subprocess.run([python, "-c", _CLASSIFY, str(out), str(photo)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "label=espresso" in done.stdout
