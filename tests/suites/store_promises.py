"""What every store promises; a store passes when a class of its own inherits these."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from edgekit.fleet.batch import Batch, BoardKey
from edgekit.fleet.ranges import ranges_of
from edgekit.fleet.retention import Keep
from edgekit.fleet.store import Store
from edgekit_device.contract.documents import dump
from edgekit_device.contract.dropped import stamp
from edgekit_device.contract.topics import EVENT, STATUS, TELEMETRY, topic
from tests.worlds.readings import BOOT, event, reading, status

PORCH = BoardKey("home", "porch")
OTHER_BOOT = "a0" * 16
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY_S = 86_400.0


def batch_of(*sequence: int, boot: str = BOOT, device: str = "porch") -> Batch:
    batch = Batch()
    for seq in sequence:
        batch.add(topic("home", device, TELEMETRY), reading(seq, device, boot).to_bytes())
    return batch


def at_time(seq: int, moment: datetime, fps: float = 29.8, p50: float | None = 12.5) -> Batch:
    """One Reading made at a moment."""
    made = reading(seq, fps=fps, latency_ms={"end_to_end": {"p50": p50, "p95": p50 and p50 * 1.2, "p99": None}})
    payload = dump({**made.to_json(), "at": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")})
    batch = Batch()
    batch.add(topic("home", "porch", TELEMETRY), payload)
    assert not batch.rejected
    return batch


def rows(store: Store, query: str) -> list[tuple[object, ...]]:
    with store.reading() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def recomputed(store: Store, span_ms: int) -> list[tuple[int, ...]]:
    """Roll-ups made anew from the raw rows, in plain arithmetic that shares no code with the store."""
    found: dict[tuple[int, int], list[tuple[int, int, int | None, int | None]]] = {}
    columns = "board, at, received, fps, inference_fps, end_to_end_p50_ms, end_to_end_p95_ms"
    for board, at, received, fps, inference, p50, p95 in rows(store, f"select {columns} from readings"):
        assert isinstance(at, int) and isinstance(received, int)
        if received - at > 7 * 86_400_000 or at - received > 86_400_000:
            continue
        values = tuple(None if v is None else round(v * 1000) for v in (fps, inference, p50, p95))  # type: ignore[operator]
        found.setdefault((board, at // span_ms), []).append(values)  # type: ignore[arg-type]
    table = []
    for key, values in found.items():
        fps_values, inference_values, p50s, p95s = zip(*values, strict=True)
        timed = [v for v in p50s if v is not None]
        table.append(
            (*key, len(values), sum(fps_values), min(fps_values), max(fps_values), sum(inference_values),
             len(timed), sum(timed), max((v for v in p95s if v is not None), default=0))
        )  # fmt: skip
    return sorted(table)


def kept(store: Store, table: str) -> list[tuple[int, ...]]:
    columns = (
        "board, bucket, readings, fps_milli_sum, fps_milli_min, fps_milli_max, inference_milli_sum, "
        "timed, p50_us_sum, p95_us_max"
    )
    return sorted(rows(store, f"select {columns} from {table}"))  # type: ignore[arg-type]


class StorePromises:
    """Inherited by tests that provide `store_url`, a fixture with the URL of an empty store."""

    @pytest.fixture
    def store_url(self) -> str:
        raise NotImplementedError

    def test_duplicates_are_stored_once_within_a_batch_and_between(self, store_url: str) -> None:
        with Store(store_url) as store:
            first = store.write(batch_of(0, 1, 1, 2))
            again = store.write(batch_of(1, 2, 3))
            assert (first.new, first.duplicates) == ({PORCH: 3}, 1)
            assert (again.new, again.duplicates) == ({PORCH: 1}, 2)
            assert store.acks([PORCH])[PORCH].stored == {BOOT: ((0, 3),)}
            assert store.stored_counts() == {PORCH: 4}
            assert rows(store, "select seq from readings order by seq") == [(0,), (1,), (2,), (3,)]

    def test_a_message_that_comes_again_with_a_mended_time_is_the_same_message(self, store_url: str) -> None:
        with Store(store_url, now=NOON.timestamp) as store:
            store.write(at_time(0, NOON))
            again = store.write(at_time(0, NOON - timedelta(days=3)))
            assert again.duplicates == 1
            assert rows(store, "select count(*) from readings") == [(1,)]
            assert [row[2] for row in kept(store, "readings_by_hour")] == [1]

    def test_acks_name_what_is_stored_whichever_store_asks(self, store_url: str) -> None:
        with Store(store_url) as one, Store(store_url) as other:
            one.write(batch_of(0, 1, 5))
            other.write(batch_of(2, 3, boot=OTHER_BOOT))
            other.write(batch_of(2))
            expected = {BOOT: ((0, 2), (5, 5)), OTHER_BOOT: ((2, 3),)}
            assert one.acks([PORCH])[PORCH].stored == other.acks([PORCH])[PORCH].stored == expected
            assert one.acks([BoardKey("home", "unknown")])[BoardKey("home", "unknown")].stored == {}

    def test_acks_name_only_boots_that_the_board_still_sends_from(self, store_url: str) -> None:
        now_s = 1_800_000_000.0
        with Store(store_url, lambda: now_s) as store:
            store.write(batch_of(0, 1, boot=OTHER_BOOT))
            now_s += 1800
            store.write(batch_of(0))
            assert store.acks([PORCH])[PORCH].stored == {BOOT: ((0, 0),), OTHER_BOOT: ((0, 1),)}
            now_s += 1801
            store.write(batch_of(1))
            assert store.acks([PORCH])[PORCH].stored == {BOOT: ((0, 1),)}
            # However long the board itself was silent, its last boot is named.
            now_s += 40 * DAY_S
            assert store.acks([PORCH])[PORCH].stored == {BOOT: ((0, 1),)}
        with Store(store_url, lambda: now_s) as other:
            # What the board still held after all: it sends again, and is told.
            assert other.write(batch_of(1, boot=OTHER_BOOT)).duplicates == 1
            assert other.acks([PORCH])[PORCH].stored == {OTHER_BOOT: ((0, 1),)}
            other.write(batch_of(2))
            assert other.acks([PORCH])[PORCH].stored == {BOOT: ((0, 2),), OTHER_BOOT: ((0, 1),)}

    def test_an_ack_of_a_torn_boot_names_its_newest_thousand_ranges(self, store_url: str) -> None:
        with Store(store_url) as store:
            store.write(batch_of(*range(0, 2100, 2)))
            assert store.acks([PORCH])[PORCH].stored == {BOOT: tuple((n, n) for n in range(100, 2100, 2))}

    def test_two_writers_at_once_lose_nothing_and_double_nothing(self, store_url: str) -> None:
        Store(store_url).close()
        failures: list[BaseException] = []

        def work(start: int) -> None:
            try:
                with Store(store_url) as store:
                    for low in range(start, 120, 7):
                        mixed = batch_of(*range(low, min(low + 10, 120)))
                        more = batch_of(*range(low, min(low + 10, 120)), device="garage", boot=OTHER_BOOT)
                        # The same boards in another order: two transactions must not wait for one another in a circle.
                        mixed.received = (more.received + mixed.received) if start else (mixed.received + more.received)
                        store.write(mixed)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(start,)) for start in (0, 3, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        with Store(store_url) as store:
            assert rows(store, "select count(*), count(distinct seq) from readings") == [(240, 120)]
            assert store.acks([PORCH])[PORCH].stored == {BOOT: ((0, 119),)}
            assert sum(row[2] for row in kept(store, "readings_by_hour")) == 240

    def test_gaps_are_counted_and_those_that_boards_dropped_are_told_apart(self, store_url: str) -> None:
        with Store(store_url) as store:
            store.write(batch_of(2, 3, 9))
            assert (store.summary().gaps, store.summary().dropped) == (7, 0)
            batch = Batch()
            told = stamp(reading(10).to_json(), {BOOT: ((0, 1), (6, 7)), OTHER_BOOT: ((0, 99),)})
            batch.add(topic("home", "porch", TELEMETRY), dump(told))
            store.write(batch)
            assert (store.summary().gaps, store.summary().dropped) == (3, 104)
            # What was given up and came all the same is no loss.
            store.write(batch_of(0, 1, boot=OTHER_BOOT))
            assert (store.summary().gaps, store.summary().dropped) == (3, 102)

    def test_a_status_of_an_earlier_connection_changes_nothing(self, store_url: str) -> None:
        with Store(store_url) as store:
            for state, session, online in (("online", 1, 1), ("online", 2, 1), ("offline", 1, 1), ("offline", 2, 0)):
                batch = Batch()
                payload = {**_json(status(state).to_bytes()), "session": session}
                batch.add(topic("home", "porch", STATUS), dump(payload))
                store.write(batch)
                assert store.summary().online == online

    def test_what_is_desired_and_reported_is_kept(self, store_url: str) -> None:
        with Store(store_url, now=NOON.timestamp) as store:
            store.desire(PORCH, b'{"schema":1,"bundle":"lite0-1.0.0"}')
            store.desire(PORCH, b'{"schema":1,"bundle":"lite0-1.0.1"}')
            assert store.desired() == {PORCH: b'{"schema":1,"bundle":"lite0-1.0.1"}'}
            batch = batch_of(0)
            assert store.write(batch).new == {PORCH: 1}
            assert store.seen_since(60) == [PORCH]

    def test_one_of_several_collectors_gets_a_turn(self, store_url: str) -> None:
        clock = [1000.0]
        with Store(store_url, now=lambda: clock[0]) as one, Store(store_url, now=lambda: clock[0]) as other:
            assert one.claim("prune", 60)
            assert not other.claim("prune", 60)
            assert other.claim("republish", 60)
            clock[0] += 61
            assert other.claim("prune", 60)
            assert not one.claim("prune", 60)

    def test_retention_deletes_rows_and_keeps_what_was_promised(self, store_url: str) -> None:
        clock = [NOON.timestamp()]
        with Store(store_url, now=lambda: clock[0]) as store:
            store.write(at_time(0, NOON))
            store.write(at_time(1, datetime(1970, 1, 1, tzinfo=UTC)))
            assert store.prune(Keep(raw_days=1)) == 0
            clock[0] += 10 * DAY_S
            store.write(at_time(2, NOON + timedelta(days=10)))
            keep = Keep(raw_days=5, minute_days=5, hour_days=365)
            assert store.prune(keep) == 3  # Two Readings and one minute.
            assert rows(store, "select seq from readings") == [(2,)]
            assert len(kept(store, "readings_by_minute")) == 1
            assert len(kept(store, "readings_by_hour")) == 2
            # Deleted is still stored: a board that missed its ack may send it again.
            assert store.acks([PORCH])[PORCH].stored == {BOOT: ((0, 2),)}
            assert store.write(at_time(0, NOON)).duplicates == 1
            assert rows(store, "select seq from readings") == [(2,)]
            summary = store.summary()
            assert (summary.stored, summary.rows) == (3, 1)

    @pytest.mark.parametrize(
        ("days", "counted"), [(0, (0, 0, 0)), (0.1, (1, 0, 0)), (6.9, (1, 0, 0)), (7.1, (0, 1, 0)), (-1.1, (0, 0, 1))]
    )
    def test_late_data_is_rolled_up_for_a_week_and_counted_after_it(
        self, store_url: str, days: float, counted: tuple[int, int, int]
    ) -> None:
        with Store(store_url, now=NOON.timestamp) as store:
            for _ in range(2):
                store.write(at_time(0, NOON - timedelta(days=days)))
            summary = store.summary()
            assert (summary.delayed, summary.late, summary.ahead) == counted
            assert summary.stored == summary.rows == 1
            assert len(kept(store, "readings_by_hour")) == (days >= -1) - counted[1]

    def test_roll_ups_equal_recomputation_from_raw_whatever_arrives_when(self, store_url: str) -> None:
        clock = [0.0]
        with Store(store_url, now=lambda: clock[0]) as store:
            made = [0]

            @settings(max_examples=self.examples, deadline=None, database=None)
            @given(deliveries())
            def holds(deliveries: list[tuple[int, float, float, float, float | None]]) -> None:
                # Each example has its own stretch of the sequence: one store, so that its price is paid once.
                base, made[0] = made[0], made[0] + 100
                for number, made_days, late_days, fps, p50 in deliveries:
                    clock[0] = NOON.timestamp() + (made_days + late_days) * DAY_S
                    moment = NOON + timedelta(days=made_days)
                    store.write(at_time(base + number, moment, fps, p50))
                sent = {base + number for number, *_ in deliveries}
                stored = rows(store, f"select seq from readings where seq >= {base} and seq < {base + 100}")
                assert sorted(seq for (seq,) in stored) == sorted(sent)
                assert kept(store, "readings_by_minute") == recomputed(store, 60_000)
                assert kept(store, "readings_by_hour") == recomputed(store, 3_600_000)

            holds()
            summary = store.summary()
            assert summary.late > 0
            covered = store.acks([PORCH])[PORCH].stored.get(BOOT, ())
            assert covered == ranges_of(seq for (seq,) in rows(store, "select seq from readings"))[-1000:]

    examples = 40

    def test_events_share_the_sequence(self, store_url: str) -> None:
        batch = batch_of(0, 2)
        batch.add(topic("home", "porch", EVENT), event(1).to_bytes())
        with Store(store_url) as store:
            store.write(batch)
            assert store.acks([PORCH])[PORCH].stored == {BOOT: ((0, 2),)}
            assert store.summary().stored == 3


@st.composite
def deliveries(draw: st.DrawFn) -> list[tuple[int, float, float, float, float | None]]:
    """(number, made at days, late by days, fps, p50): each message one to three times, shuffled, clocks stepping."""
    found = []
    fps = st.floats(0, 120, allow_nan=False)
    for number in range(draw(st.integers(1, 12))):
        made = draw(st.sampled_from([0.0, 0.0004, 0.5, 3.0, -3.0, -9.0, 2.5]))
        message = (draw(fps), draw(st.none() | st.floats(0, 500)))
        for _ in range(draw(st.integers(1, 3))):
            found.append((number, made, draw(st.sampled_from([0.0, 0.001, 0.3, 6.99, 7.01, 8.0, -2.0])), *message))
    return draw(st.permutations(found))


def _json(payload: bytes) -> dict[str, object]:
    import json

    found: dict[str, object] = json.loads(payload)
    return found
