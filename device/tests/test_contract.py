"""The board reads the contract's golden files and writes the same bytes; tests/contract does it for the host."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_device.contract.errors import ContractError
from edgekit_device.contract.manifest import Manifest
from edgekit_device.contract.telemetry import Event, Reading, Result, Status

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
