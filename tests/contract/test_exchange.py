"""The documents that host and board exchange about storing and wanting: read, written and refused by both sides."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_device.contract.ack import Ack, merge_ranges, subtract_ranges
from edgekit_device.contract.asking import Answer, Request
from edgekit_device.contract.desired import Desired, Watch
from edgekit_device.contract.dropped import read_dropped, stamp
from edgekit_device.contract.errors import ContractError, FieldError, SchemaError
from edgekit_device.contract.reported import Reported
from edgekit_device.contract.telemetry import Reading, Status
from edgekit_device.contract.topics import KINDS, parse

GOLDEN = Path(__file__).parent / "golden"
READERS: dict[str, Callable[[bytes], object]] = {
    "ack": Ack.from_bytes,
    "answer": Answer.from_bytes,
    "desired": Desired.from_bytes,
    "reported": Reported.from_bytes,
    "request": Request.from_bytes,
    "watch": Watch.from_bytes,
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


@pytest.mark.parametrize("wrong", ["text", -1, [1], True, 1e400])
def test_a_field_of_another_type_is_refused_by_a_named_error(document, wrong) -> None:
    name, data = document
    values = json.loads(data)
    texts = {"reason", "bundle", "runtime", "force", "kind"}  # A text of another kind is no other type.
    for field in values.keys() - texts:
        with pytest.raises(ContractError):
            READERS[name](json.dumps({**values, field: wrong}).encode())


@given(st.data())
def test_a_damaged_document_is_refused_by_name_or_read(data) -> None:
    name = data.draw(st.sampled_from(sorted(READERS)))
    whole = bytearray((GOLDEN / f"{name}.json").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        again = READERS[name](bytes(whole))
    except ContractError:
        return
    assert READERS[name](again.to_bytes()) == again


@pytest.mark.parametrize(
    "wish",
    [
        {"bundle": "../../etc/passwd"},
        {"bundle": "lite0-1.0.0;reboot"},
        {"interval_s": 0},
        {"interval_s": 1e9},
        {"region": [0, 0, 1]},
        {"region": [0.6, 0, 0.5, 1]},
        {"region": [0, 0, 0, 1]},
        {"thresholds": {"threshold": 1.5}},
        {"thresholds": {"attempts": "3"}},
        {"runtime": "https://elsewhere/x.whl"},
        {"force": True},
        {"force": "a word"},
        {"max_bytes_per_s": 1},
        {"jitter_s": -1},
        {"window": ["02:00"]},
        {"window": ["2:00", "04:00"]},
        {"window": ["04:00", "04:00"]},
        {"window": ["04:00", "24:00"]},
    ],
    ids=str,
)
def test_a_wish_out_of_range_is_refused_by_its_field(wish) -> None:
    with pytest.raises(FieldError, match=next(iter(wish))):
        Desired.from_bytes(json.dumps({"schema": 1, **wish}).encode())


def test_a_wish_that_names_nothing_wants_nothing() -> None:
    assert Desired.from_bytes(b'{"schema":1}') == Desired()


@pytest.mark.parametrize(
    "wrong",
    [{"bundle": None}, {"bundle": "../x"}, {"state": "done"}, {"progress": 1.5}, {"reason": 3}, {"force": "x y"}],
    ids=str,
)
def test_an_update_that_is_out_of_range_is_refused_by_its_field(wrong) -> None:
    values = json.loads((GOLDEN / "reported.json").read_bytes())
    for key in ("update", "runtime_update"):
        with pytest.raises(FieldError, match=f"reported.{key}"):
            Reported.from_bytes(json.dumps({**values, key: {**values[key], **wrong}}).encode())


def test_a_board_of_an_earlier_version_says_nothing_of_updates_and_is_understood() -> None:
    values = json.loads((GOLDEN / "reported.json").read_bytes())
    for key in ("update", "runtime", "runtime_update"):
        del values[key]
    read = Reported.from_bytes(json.dumps(values).encode())
    assert (read.update, read.runtime, read.runtime_update) == (None, None, None)


def test_a_watcher_cannot_ask_for_longer_than_a_minute_at_a_time() -> None:
    with pytest.raises(FieldError, match="seconds"):
        Watch.from_bytes(b'{"schema":1,"seconds":61,"interval_s":2}')


def test_every_document_with_a_topic_has_a_golden_file() -> None:
    named = {"telemetry": "reading"}
    for kind in KINDS:
        assert (GOLDEN / f"{named.get(kind, kind)}.json").exists(), kind
        address = parse(f"edgekit/v1/home/porch/{kind}")
        assert address is not None
        assert address.kind.name == kind


RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9)), max_size=8).map(
    lambda pairs: merge_ranges((low, low + length) for low, length in pairs)
)


def numbers(ranges) -> set[int]:
    return {n for low, high in ranges for n in range(low, high + 1)}


@given(RANGES, RANGES)
def test_ranges_are_subtracted_as_sets_are(left, right) -> None:
    rest = subtract_ranges(left, right)
    assert numbers(rest) == numbers(left) - numbers(right)
    assert rest == merge_ranges(rest)


def test_a_status_says_which_connection_speaks_and_what_a_power_cut_costs() -> None:
    status = json.loads((GOLDEN / "status.json").read_bytes())
    sent = {**status, "session": 3, "loss_window_s": 60.0}
    read = Status.from_bytes(json.dumps(sent).encode())
    assert (read.session, read.loss_window_s) == (3, 60.0)
    assert json.loads(read.to_bytes()) == sent
    for wrong in ({"session": "3"}, {"session": -1}, {"loss_window_s": -1}):
        with pytest.raises(FieldError, match=next(iter(wrong))):
            Status.from_bytes(json.dumps({**sent, **wrong}).encode())


def test_dropped_ranges_travel_in_a_reading_of_any_boot() -> None:
    reading = json.loads((GOLDEN / "reading.json").read_bytes())
    own, earlier = reading["boot"], "0" * 32
    stamped = stamp(reading, {own: ((3, 9),), earlier: ((0, 4), (7, 7))})
    sent = Reading.from_bytes(json.dumps(stamped).encode())
    assert sent.dropped_ranges == ((3, 9),)
    assert read_dropped(json.loads(sent.to_bytes())) == {own: ((3, 9),), earlier: ((0, 4), (7, 7))}
    assert "dropped_earlier" not in stamp(reading, {own: ((3, 9),)})
