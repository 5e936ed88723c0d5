"""`inspect` says what a file is, also of a bundle that nobody should run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.bundling.inspection import inspect
from edgekit.bundling.writing import BundlePlan, WrittenBundle, write_bundle
from edgekit.errors import UsageError
from edgekit.trust.keys import new_keys
from edgekit_device.contract.errors import BundleError, BundleFormatError, ModelFormatError, NoTrustedKeyError
from edgekit_device.contract.preprocess import efficientnet_lite


@pytest.fixture(scope="module")
def source(toy, photos, key, tmp_path_factory) -> WrittenBundle:
    labels = ("circle", "square", "triangle", "cross")
    made = BundlePlan("toy", "1.0.0", toy, labels, efficientnet_lite(32), photos[:6], security_epoch=2)
    return write_bundle(made, tmp_path_factory.mktemp("source") / "toy.edgekit", key)


@pytest.fixture
def written(source, tmp_path, monkeypatch) -> WrittenBundle:
    """A copy of its own for each test, on a machine without keys."""
    monkeypatch.setenv("EDGEKIT_CONFIG_HOME", str(tmp_path / "nowhere"))
    copies = [Path(shutil.copy(path, tmp_path)) for path in (source.path, source.signature)]
    return replace(source, path=copies[0], signature=copies[1])


def test_a_bundle_is_described_and_the_description_is_json(written, key) -> None:
    found = inspect(written.path, pubkey=key.public_path)
    assert json.loads(json.dumps(found)) == found
    assert (found["kind"], found["name"], found["version"], found["classes"]) == ("bundle", "toy", "1.0.0", 4)
    assert found["signature"] == {
        "state": "trusted",
        "key_id": key.key_id,
        "comment": f"edgekit toy-1.0.0 sha256:{written.sha256}",
        "problem": None,
    }
    assert [entry["name"] for entry in found["entries"]] == sorted(written.manifest.files)
    assert found["golden"]["images"] == 4 and set(found["golden"]["tolerances"]) == {"xnnpack", "builtin"}
    assert found["models"]["cpu"]["operators"]["SOFTMAX"] == 1
    assert found["security_epoch"] == 2


def test_a_signature_that_does_not_hold_is_a_state_and_the_rest_is_still_told(written, key, tmp_path) -> None:
    other = new_keys(tmp_path / "other")
    assert inspect(written.path, pubkey=other.public_path)["signature"]["state"] == "untrusted"
    # No key at all on this machine: the signer's id is told, and which command helps.
    state = inspect(written.path)["signature"]
    assert state["state"] == "untrusted" and state["key_id"] == key.key_id and "--pubkey" in state["problem"]
    written.signature.write_text("rubbish")
    assert inspect(written.path, pubkey=key.public_path)["signature"]["state"] == "broken"
    written.signature.unlink()
    found = inspect(written.path, pubkey=key.public_path)
    assert found["signature"]["state"] == "missing" and found["name"] == "toy"
    with pytest.raises(NoTrustedKeyError):
        inspect(written.path, pubkey=tmp_path / "missing.pub")


def test_a_changed_bundle_is_an_error_not_a_description(written, key) -> None:
    data = bytearray(written.path.read_bytes())
    data[2000] ^= 1
    written.path.write_bytes(data)
    with pytest.raises(BundleError):
        inspect(written.path, pubkey=key.public_path)
    written.path.write_bytes(b"")
    with pytest.raises(BundleFormatError):
        inspect(written.path, pubkey=key.public_path)


def test_a_model_is_described(toy: Path) -> None:
    found = inspect(toy)
    assert (found["kind"], found["classes"], found["edgetpu_compiled"], found["problem"]) == ("model", 4, False, None)
    assert found["inputs"][0] == {
        "name": "image", "shape": [1, 32, 32, 3], "dtype": "int8", "scale": 1 / 128, "zero_point": -1,
    }  # fmt: skip
    assert not any("float" in name for name in found["tensor_types"])
    assert found["sidecar"] is None
    assert json.loads(json.dumps(found)) == found


def test_the_sidecar_is_told_and_so_is_a_model_that_was_replaced(described, surgery) -> None:
    model = described()
    assert inspect(model)["sidecar"]["weights"]["licence"] == "Apache-2.0"
    model.write_bytes(surgery.other_weights(1))
    assert "somebody replaced the model" in inspect(model)["sidecar"]["problem"]


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 100, b"\x1c\0\0\0TFL3"])
def test_anything_else_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.bin").write_bytes(content)
    with pytest.raises(ModelFormatError):
        inspect(tmp_path / "x.bin")


def test_the_secret_key_is_not_taken_for_a_public_one(written, key) -> None:
    with pytest.raises(UsageError, match="not a minisign public key") as caught:
        inspect(written.path, pubkey=key.path)
    assert key.path.read_text().splitlines()[1] not in str(caught.value)
