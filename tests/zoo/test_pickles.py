"""Gate D4: a file that asks for anything but tensors is refused by name, and nothing it holds is run."""

from __future__ import annotations

import ast
import builtins
import copyreg
import os
import pickle
import re
import runpy
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.data import data_path
from edgekit.errors import UnsafePickleError, WeightsError, WeightsFormatError
from edgekit.zoo import read_weights

CANARY = "CANARY_FILE"  # replaced by a path of the test's own folder


class Reduces:
    """An object whose pickle calls whatever it is told to."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


class SetsState:
    def __setstate__(self, state: dict[str, str]) -> None:
        Path(state["path"]).touch()


def reduced(protocol: int, function: Callable[..., Any], *arguments: Any) -> Callable[[str], bytes]:
    def make(canary: str) -> bytes:
        filled = [a.replace(CANARY, canary) if isinstance(a, str) else a for a in arguments]
        return pickle.dumps(Reduces(function, tuple(filled)), protocol)

    return make


def raw(body: bytes) -> Callable[[str], bytes]:
    return lambda canary: body.replace(CANARY.encode(), canary.encode())


def sized(head: bytes, middle: str, tail: bytes) -> Callable[[str], bytes]:
    """A body with one BINUNICODE argument whose length follows the canary's path."""

    def make(canary: str) -> bytes:
        argument = middle.replace(CANARY, canary).encode()
        return head + b"X" + struct.pack("<I", len(argument)) + argument + tail

    return make


def short(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


TOUCH = f"touch {CANARY}"
WRITE = f"open({CANARY!r}, 'w')"

CANARIES: dict[str, tuple[Callable[[str], bytes], str]] = {
    **{f"os.system protocol {p}": (reduced(p, os.system, TOUCH), "(posix.system|opcode .*)") for p in range(6)},
    "builtins.eval": (reduced(4, builtins.eval, WRITE), "builtins.eval"),
    "builtins.exec": (reduced(2, builtins.exec, WRITE), "__builtin__.exec"),
    "builtins.open": (reduced(5, builtins.open, CANARY, "w"), r"(_io|io).open"),
    "builtins.getattr": (reduced(4, getattr, "", "join"), "builtins.getattr"),
    "builtins.__import__": (reduced(4, builtins.__import__, "os"), "builtins.__import__"),
    "subprocess.Popen": (reduced(4, subprocess.Popen, TOUCH), "subprocess.Popen"),
    "subprocess.check_output": (reduced(3, subprocess.check_output, TOUCH), "subprocess.check_output"),
    "runpy.run_path": (reduced(4, runpy.run_path, CANARY), "runpy.run_path"),
    "pickle.loads nested": (reduced(4, pickle.loads, b"."), "_pickle.loads|opcode"),
    "torch.load nested": (sized(b"\x80\x02ctorch\nload\n", CANARY, b"\x85R."), "torch.load"),
    "torch.hub.load": (sized(b"\x80\x02ctorch.hub\nload\n", CANARY, b"\x85R."), "torch.hub.load"),
    "torch._utils._rebuild_parameter": (
        raw(b"\x80\x02ctorch._utils\n_rebuild_parameter\n)R."),
        "torch._utils._rebuild_parameter",
    ),
    "torch.jit._pickle": (raw(b"\x80\x02ctorch.jit._pickle\nbuild_intlist\n)R."), "torch.jit._pickle"),
    "numpy reconstruct": (raw(pickle.dumps(np.zeros(3), 2)), "numpy._core.multiarray._reconstruct"),
    "argparse.Namespace": (raw(b"\x80\x02cargparse\nNamespace\n)\x81."), "argparse.Namespace"),
    "copyreg._reconstructor": (
        reduced(2, copyreg._reconstructor, Path, object, None),  # type: ignore[attr-defined]
        "copy_?reg._reconstructor",
    ),
    "dotted name through OrderedDict": (
        raw(b"\x80\x04" + short("collections") + short("OrderedDict.__init__") + b"\x93)R."),
        "collections.OrderedDict.__init__",
    ),
    "STACK_GLOBAL through the memo": (
        sized(b"\x80\x04" + short("posix") + b"\x940" + short("system") + b"\x940h\x00h\x01\x93", TOUCH, b"\x85R."),
        "opcode POP",
    ),
    "STACK_GLOBAL through the memo, no POP": (
        sized(b"\x80\x04](" + short("posix") + b"\x94" + short("system") + b"\x94eh\x00h\x01\x93", TOUCH, b"\x85R."),
        "posix.system",
    ),
    "GLOBAL through the memo": (sized(b"\x80\x02cposix\nsystem\nq\x00h\x00", TOUCH, b"\x85R."), "posix.system"),
    "STACK_GLOBAL of numbers": (raw(b"\x80\x04K\x01K\x02\x93."), "a global whose name is not text"),
    "INST": (raw(b"(S'" + TOUCH.encode() + b"'\niposix\nsystem\n."), "opcode STRING|posix.system"),
    "INST without arguments": (raw(b"(iposix\nsystem\n."), "posix.system"),
    "OBJ": (sized(b"(cposix\nsystem\n", TOUCH, b"o."), "posix.system"),
    "OBJ of a permitted class": (raw(b"(ccollections\nOrderedDict\no."), "opcode OBJ"),
    "NEWOBJ": (raw(b"\x80\x02ccollections\nOrderedDict\n)\x81."), "opcode NEWOBJ"),
    "NEWOBJ_EX": (raw(b"\x80\x04ccollections\nOrderedDict\n)}\x92."), "opcode NEWOBJ_EX"),
    "BUILD with __setstate__": (
        lambda canary: pickle.dumps(Reduces(SetsState, (), {"path": canary}), 4),
        "SetsState",
    ),
    "BUILD on a list": (raw(b"\x80\x02]}b."), "BUILD"),
    "BUILD with slots": (raw(b"\x80\x02ccollections\nOrderedDict\n)RN}\x86b."), "BUILD"),
    "EXT1": (raw(b"\x80\x02\x82\x01)R."), "opcode EXT1"),
    "EXT2": (raw(b"\x80\x02\x83\x01\x00)R."), "opcode EXT2"),
    "EXT4": (raw(b"\x80\x02\x84\x01\x00\x00\x00)R."), "opcode EXT4"),
    "PERSID text": (raw(b"P" + TOUCH.encode() + b"\n."), "opcode PERSID"),
    "REDUCE of text": (sized(b"\x80\x02", TOUCH, b")R."), "a call of str"),
    "REDUCE of a dict": (raw(b"\x80\x02})R."), "a call of dict"),
    "BYTEARRAY8": (raw(b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b"."), "opcode|not a readable"),
    "NEXT_BUFFER": (raw(b"\x80\x05\x97."), "opcode NEXT_BUFFER"),
}


@pytest.fixture
def canary(tmp_path: Path) -> Any:
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "the file was able to run something"


@pytest.mark.parametrize("container", ["bare", "legacy", "zip", "inside a state dict"])
@pytest.mark.parametrize("name", CANARIES)
def test_a_canary_is_refused_by_name_and_runs_nothing(
    name: str, container: str, canary: Path, tmp_path: Path, torch_files: Any
) -> None:
    make, named = CANARIES[name]
    body = make(str(canary))
    if container == "inside a state dict":
        inner = body.removesuffix(b".")
        if inner[:1] == b"\x80":
            inner = inner[2:]
        body = torch_files.pickled(b"ccollections\nOrderedDict\n)R(" + torch_files.text("w") + inner + b"u")
    wrapped = {"bare": body, "zip": torch_files.zipped({}, table=body)}
    path = tmp_path / "evil.pth"
    path.write_bytes(wrapped.get(container) or torch_files.legacy({}, table=body))
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    if name != "BYTEARRAY8":  # its stated length ends the reading before the opcode is looked at
        assert isinstance(caught.value, UnsafePickleError)
        assert re.search(named, caught.value.refused), caught.value.refused


def test_the_canaries_bite_a_plain_unpickler(tmp_path: Path) -> None:
    """Else the refusals above would prove nothing."""
    for name in ("os.system protocol 2", "STACK_GLOBAL through the memo", "GLOBAL through the memo", "INST", "OBJ"):
        path = tmp_path / name.replace(" ", "-")
        pickle.loads(CANARIES[name][0](str(path)))
        assert path.exists(), name
    path = tmp_path / "state"
    pickle.loads(CANARIES["BUILD with __setstate__"][0](str(path)))
    assert path.exists()


def _persistent(*items: bytes) -> bytes:
    from_tuple = b"(" + b"".join(items) + b"tQ"
    return b"\x80\x02" + from_tuple + b"."


@pytest.mark.parametrize(
    "body",
    [
        b"\x80\x02NQ.",
        b"\x80\x02" + b"X\x07\x00\x00\x00storageQ.",
        _persistent(b"X\x06\x00\x00\x00module", b"N", b"N", b"N", b"N"),
        _persistent(b"X\x07\x00\x00\x00storage", b"X\x05\x00\x00\x00posix", b"X\x01\x00\x00\x000", b"N", b"K\x01"),
        _persistent(b"X\x07\x00\x00\x00storage", b"ccollections\nOrderedDict\n", b"X\x01\x00\x00\x000", b"N", b"K\x01"),
        _persistent(b"X\x07\x00\x00\x00storage", b"ctorch\nFloatStorage\n", b"K\x00", b"N", b"K\x01"),
        _persistent(
            b"X\x07\x00\x00\x00storage", b"ctorch\nFloatStorage\n", b"X\x01\x00\x00\x000", b"N", b"J\xff\xff\xff\xff"
        ),
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02ccollections\nOrderedDict\n(K\x01tR.",
        b"\x80\x02K\x01R.",
        b"\x80\x02t.",
        b"\x80\x02(K\x01}s.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02}(]K\x01u.",
        b"\x80\x02h\x07.",
        b"\x80\x02K\x01K\x02.",
        b"\x80\x02X\xff\xff\xff\xffabc.",
        b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"abc.",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"\x80\x63N.",
        b"\xff\xff\xff",
        b"",
    ],
)
def test_a_malformed_pickle_is_a_named_error(body: bytes, canary: Path, tmp_path: Path, torch_files: Any) -> None:
    for wrapped in (body, torch_files.zipped({}, table=body), torch_files.legacy({}, table=body)):
        path = tmp_path / "broken.pth"
        path.write_bytes(wrapped)
        with pytest.raises(WeightsError):
            read_weights(path)


ARRAYS = {
    "a.weight": np.arange(24, dtype="<f4").reshape(2, 3, 4),
    "a.bias": np.arange(3, dtype="<f2"),
    "b": np.arange(5, dtype="<f8"),
    "bn.num_batches_tracked": np.array(7, dtype="<i8"),
    "n": np.arange(4, dtype="<i4"),
}


@pytest.mark.parametrize("form", ["legacy", "zipped"])
def test_tensors_of_every_permitted_type_come_back_equal(form: str, tmp_path: Path, torch_files: Any) -> None:
    path = tmp_path / "good.pth"
    path.write_bytes(getattr(torch_files, form)(ARRAYS))
    read = read_weights(path)
    assert list(read) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


def test_bfloat16_is_widened_without_loss(tmp_path: Path, torch_files: Any) -> None:
    values = np.array([1.0, -2.5, 0.15625, 3e38], "<f4")
    halved = (values.view(np.uint32) >> 16).astype("<u2")
    path = tmp_path / "good.pt"
    path.write_bytes(torch_files.zipped({"w": halved}, kinds={"w": "BFloat16Storage"}))
    np.testing.assert_array_equal(read_weights(path)["w"], (halved.astype(np.uint32) << 16).view(np.float32))


@pytest.mark.parametrize("form", ["legacy", "zipped"])
def test_a_file_cut_anywhere_is_refused(form: str, tmp_path: Path, torch_files: Any) -> None:
    whole = getattr(torch_files, form)(ARRAYS)
    path = tmp_path / "cut.pth"
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError):
            read_weights(path)


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((1 << 39,), (0,), 0),
        ((1 << 39, 1 << 39), (1, 1), 0),
        ((5,), (1,), 0),
        ((4,), (1,), 1),
        ((2, 2), (3, 1), 0),
        ((0,), (1,), 0),
        ((1 << 70,), (1,), 0),
        ((4,), (-1,), 3),
        ((4,), (1,), -1),
        ((2, 2), (1,), 0),
        ((1,) * 9, (1,) * 9, 0),
    ],
)
def test_a_tensor_that_claims_more_than_its_storage_is_refused(
    size: tuple[int, ...], stride: tuple[int, ...], offset: int, tmp_path: Path, torch_files: Any
) -> None:
    stored = torch_files.storage("FloatStorage", "0", 4)
    body = torch_files.pickled(b"}(" + torch_files.text("w") + torch_files.tensor(stored, size, stride, offset) + b"u")
    path = tmp_path / "huge.pth"
    path.write_bytes(torch_files.zipped({"w": np.zeros(4, "<f4")}, table=body))
    with pytest.raises(WeightsFormatError):
        read_weights(path)


def test_a_storage_that_states_a_huge_length_is_refused(tmp_path: Path, torch_files: Any) -> None:
    stored = torch_files.storage("FloatStorage", "0", 1 << 39)
    body = torch_files.pickled(b"}(" + torch_files.text("w") + torch_files.tensor(stored, (1,), (1,)) + b"u")
    for form in (torch_files.zipped, torch_files.legacy):
        path = tmp_path / "huge.pth"
        path.write_bytes(form({"w": np.zeros(4, "<f4")}, table=body))
        with pytest.raises(WeightsFormatError):
            read_weights(path)


@pytest.mark.parametrize("name", ["../escape", "/etc/escape", "model/../../escape", "model\\..\\escape", "C:escape"])
def test_a_zip_entry_that_leaves_the_archive_is_refused(name: str, tmp_path: Path, torch_files: Any) -> None:
    path = tmp_path / "slip.pth"
    path.write_bytes(torch_files.zipped(ARRAYS, extra={name: b"x"}))
    with pytest.raises(WeightsFormatError, match="leaves the archive"):
        read_weights(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["slip.pth"]


def test_a_compressed_torch_zip_is_refused_before_it_unpacks(tmp_path: Path, torch_files: Any) -> None:
    path = tmp_path / "bomb.pth"
    path.write_bytes(torch_files.zipped({"w": np.zeros(1 << 20, "<f4")}, compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(WeightsFormatError, match="compressed"):
        read_weights(path)


def test_a_dict_that_holds_itself_is_read_without_looping(tmp_path: Path, torch_files: Any) -> None:
    body = torch_files.pickled(b"}q\x00(" + torch_files.text("a") + b"h\x00" + torch_files.text("b") + b"h\x00u")
    path = tmp_path / "loop.pth"
    path.write_bytes(torch_files.zipped({}, table=body))
    with pytest.raises(WeightsFormatError, match="no tensors"):
        read_weights(path)


def test_a_yaml_file_is_refused_by_its_kind(canary: Path, tmp_path: Path) -> None:
    path = tmp_path / "weights.yaml"
    path.write_text(f"!!python/object/apply:os.system ['touch {canary}']")
    with pytest.raises(WeightsFormatError, match="of no kind"):
        read_weights(path)


def test_an_npz_of_pickled_objects_is_refused(canary: Path, tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, w=np.array([Reduces(os.system, (f"touch {canary}",))], dtype=object), allow_pickle=True)
    with pytest.raises(WeightsFormatError, match=r"plain arrays"):
        read_weights(path)


def test_an_npz_entry_that_is_not_an_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w.npy", b"cposix\nsystem\n.")
    with pytest.raises(WeightsFormatError):
        read_weights(path)


def test_an_npz_that_claims_a_huge_array_is_refused(tmp_path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d,), }" % (1 << 50)
    header = header.ljust(117) + b"\n"
    path = tmp_path / "huge.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(WeightsFormatError):
        read_weights(path)


def test_the_pinned_imagenet_pickle_asks_for_nothing_else() -> None:
    from edgekit.zoo import get_variant
    from edgekit.zoo.weights import imagenet_file

    read = read_weights(imagenet_file(get_variant("efficientnet-lite0")))
    assert isinstance(read, dict)
    assert sum(array.size for name, array in read.items() if "tracked" not in name) == 4_694_024


def test_the_zoo_imports_neither_pickle_nor_anything_that_unpickles() -> None:
    forbidden = {"pickle", "_pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "torch", "yaml"}
    for source in data_path("edgekit", "zoo").glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not forbidden & {name.partition(".")[0] for name in names}, source


def test_there_are_more_than_twenty_canaries() -> None:
    assert len(CANARIES) >= 20
