"""The board reads the contract's golden files and writes the same bytes; tests/contract does it for the host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_device.contract.errors import ContractError
from edgekit_device.contract.manifest import Manifest
from edgekit_device.contract.telemetry import CLOCKS, Event, Reading, Result, Status
from edgekit_device.contract.usual import usual_reading

GOLDEN = Path(__file__).parents[2] / "tests" / "contract" / "golden"
READERS = {"reading": Reading, "status": Status, "event": Event, "result": Result, "manifest": Manifest}


@pytest.mark.parametrize("name", sorted(READERS))
def test_the_golden_file_comes_back_byte_for_byte(name: str) -> None:
    data = (GOLDEN / f"{name}.json").read_bytes().removesuffix(b"\n")
    assert READERS[name].from_bytes(data).to_bytes() == data


@pytest.mark.parametrize("name", sorted(READERS))
@given(data=st.data())
def test_a_damaged_document_is_refused_by_name_or_read(name: str, data) -> None:
    whole = bytearray((GOLDEN / f"{name}.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        again = READERS[name].from_bytes(bytes(whole))
    except ContractError:
        return
    assert READERS[name].from_bytes(again.to_bytes()) == again


@pytest.mark.parametrize("name", sorted(READERS))
@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused_by_name(name: str, data: bytes) -> None:
    with pytest.raises(ContractError):
        READERS[name].from_bytes(data)


# NaN is not here: `load` refuses it.
_ODD = (
    None, True, False, 0, -1, 7, 2**53, 2**63, 10**400, 0.5, -0.5, -0.0, 1e308, float("inf"), "",
    "x", "x" * 2000,
    "\0", "a/b", "a" * 40 + "/" + "b" * 40, "Łódź", "\ud800", "٣", "9f" * 16, "9F" * 16, "2026-11-22T10:00:05Z",
    [], [1, True],
    [0.5], {}, {"1,2": 3}, {"": 1}, {"1234567": 1}, {"٣": 1}, {"1": True}, {"1": -1}, {"1": 2**63}, ["hot", 1], ["hot"],
    [""], ["x" * 65], ["x"] * 65, [None], [0] * 257, [-1], [2**63], [[0, 3]], [["a"]], {"invoke": []}, {"invoke": None},
    {"s": {"p50": 1.0, "p95": 2.0, "p99": -1.0}}, {"s": {"p50": 1.0, "p95": 2.0}},
    {"s": {"p50": 1.0, "p95": 2.0, "p99": 1}},
    {"s" * 65: {"p50": 1.0, "p95": 2.0, "p99": 3.0}}, {"s": {"p50": 1.0, "p95": 2.0, "p99": 3.0, "max": 4.0}},
)  # fmt: skip
_ABSENT = object()


def test_the_quick_reading_of_a_usual_reading_is_the_full_one_or_none() -> None:
    golden = json.loads((GOLDEN / "reading.json").read_bytes())
    golden["latency_ms"]["end_to_end"]["p99"], golden["dropped_ranges"] = 16.0, []
    assert usual_reading(golden, CLOCKS) is not None
    quick = 0
    for key in {*golden, "new"} - {"schema"}:
        for odd in (*_ODD, _ABSENT):
            document = {**golden, key: odd}
            if odd is _ABSENT:
                document.pop(key)
            usual = usual_reading(document, CLOCKS)
            if usual is not None:
                quick += 1
                full = Reading.from_fields(document)
                assert repr({**usual, "extra": {}}) == repr({name: getattr(full, name) for name in (*usual, "extra")})
                assert Reading(**usual) == full
    assert quick > 100
