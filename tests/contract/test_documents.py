"""The host reads the contract's golden files and writes the same bytes; device/tests/test_contract.py does it too."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit_device.contract.errors import ContractError, SchemaError
from edgekit_device.contract.manifest import Manifest
from edgekit_device.contract.preprocess import Preprocess
from edgekit_device.contract.telemetry import Event, Reading, Result, Status

GOLDEN = Path(__file__).parent / "golden"
READERS: dict[str, Callable[[bytes], object]] = {
    "reading": Reading.from_bytes,
    "status": Status.from_bytes,
    "event": Event.from_bytes,
    "result": Result.from_bytes,
    "manifest": Manifest.from_bytes,
}


@pytest.fixture(params=sorted(READERS))
def document(request: pytest.FixtureRequest) -> tuple[str, bytes]:
    return request.param, (GOLDEN / f"{request.param}.json").read_bytes().removesuffix(b"\n")


def test_bytes_become_an_object_and_the_same_bytes_again(document) -> None:
    name, data = document
    assert READERS[name](data).to_bytes() == data


def test_a_field_of_a_later_version_is_kept(document) -> None:
    name, data = document
    later = {**json.loads(data), "later": {"x": [1, None, "ü"]}, "a_first": 1}
    sent = json.dumps(later, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert READERS[name](sent).to_bytes() == sent


@pytest.mark.parametrize("schema", [2, 0, None, "1", True, 1.5])
def test_another_schema_is_refused_by_name(document, schema) -> None:
    name, data = document
    with pytest.raises(SchemaError, match=name):
        READERS[name](json.dumps({**json.loads(data), "schema": schema}).encode())


def test_every_required_field_is_missed_by_name(document) -> None:
    """Fields that may be null may be absent; the others are named when they are."""
    name, data = document
    values = json.loads(data)
    missed = 0
    for field in values:
        rest = {key: value for key, value in values.items() if key != field}
        try:
            READERS[name](json.dumps(rest).encode())
        except ContractError as refusal:
            assert field in str(refusal)
            missed += 1
    assert missed >= len(values) // 2


def test_a_field_of_another_type_is_refused_by_a_named_error(document) -> None:
    name, data = document
    values = json.loads(data)
    # null and objects that the contract leaves open are free to change; everything else is typed.
    free = {"baseline", "provenance", "requires", "edgetpu_preprocess", "detail"}
    for field in values.keys() - free:
        with pytest.raises(ContractError):
            READERS[name](json.dumps({**values, field: {"wrong": ["type"]}}).encode())


def test_preprocessing_is_the_same_object_again() -> None:
    document = json.loads((GOLDEN / "preprocess.json").read_bytes())["preprocess"]
    read = Preprocess.from_json(document)
    assert read.to_json() == document
    # The pin that makes the right model cost no arithmetic: the int8 input is the pixel minus 128.
    assert (read.scale, read.zero_point, read.mean, read.std) == (1 / 128, -1, (127.0,) * 3, (128.0,) * 3)


def test_the_reading_has_the_fields_that_the_design_shows() -> None:
    shown = {
        "schema", "site", "device", "boot", "seq", "at", "clock", "window_s", "fps", "capture_fps", "inference_fps",
        "frames_dropped", "latency_ms", "source", "bundle", "delegate", "delegate_reason", "threads", "cpu_temp_c",
        "throttled_now", "throttled_since_boot", "rss_bytes", "load_1m", "disk_free_bytes", "soc_power_w",
        "energy_per_inference_mj", "label", "score", "class_counts", "entropy_hist", "margin_hist", "dropped_ranges",
    }  # fmt: skip
    assert set(json.loads((GOLDEN / "reading.json").read_bytes())) == shown
