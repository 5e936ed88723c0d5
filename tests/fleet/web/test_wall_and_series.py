"""What the dashboard reads from the store: right on both databases, and cheap when little is new."""

from __future__ import annotations

import io
import json
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event

from edgekit.errors import StoreSchemaError, UsageError
from edgekit.fleet.alerts_judging import Finding
from edgekit.fleet.batch import Batch, BoardKey
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.store import Store
from edgekit.fleet.web import tables
from edgekit.fleet.web.board_now import BoardNow, with_reading
from edgekit.fleet.web.choosing import PER_PAGE, Asked, choose
from edgekit.fleet.web.drawing import number, spark
from edgekit.fleet.web.series import Span, happened, series, span_of, sparks
from edgekit.fleet.web.wall import Picture, Wall
from edgekit_device.contract.clock import utc_text
from edgekit_device.contract.telemetry import Event, Status
from edgekit_device.contract.topics import EVENT, STATUS, TELEMETRY, topic
from tests.worlds.readings import BOOT, reading
from tests.worlds.services import PostgreSQL

START_S = 1_795_000_020.0  # A whole minute.


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, postgres: PostgreSQL) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "fleet.db")
    return postgres.fresh(f"wall{abs(hash(request.node.name)) % 10**8}")


def write(store: Store, seq: int, at_s: float, device: str = "porch", **more: object) -> None:
    batch = Batch()
    made = replace(reading(seq, device), at=utc_text(at_s), window_s=30.0, **more)  # type: ignore[arg-type]
    batch.add(topic("home", device, TELEMETRY), made.to_bytes())
    batch.add(topic("home", device, STATUS), Status("online", BOOT, "toy-1.0.0", "xnnpack").to_bytes())
    assert not batch.rejected
    store.write(batch)


def statements(store: Store) -> list[str]:
    said: list[str] = []
    event.listen(store._engine, "before_cursor_execute", lambda c, cursor, text, *_: said.append(text))
    return said


def test_the_wall_follows_the_store_and_reads_only_what_is_new(url: str) -> None:
    now = [START_S]
    with Store(url, now=lambda: now[0]) as store:
        wall = Wall(store, now=lambda: now[0])
        assert wall.refresh().boards == {}
        for device in ("porch", "garden"):
            write(store, 0, START_S - 40, device, cpu_temp_c=61.0)
        first = wall.refresh()
        assert {key.device: b.temp_c for key, b in first.boards.items()} == {"porch": 61.0, "garden": 61.0}
        assert wall.refresh().version == first.version
        write(store, 1, START_S - 10, label="otter", fps=3.0)
        said = statements(store)
        second = wall.refresh()
        assert (second.boards[BoardKey("home", "porch")].label, second.boards[BoardKey("home", "garden")].label) == (
            "otter",
            "tabby",
        )
        assert sum("payload" in text for text in said) == 1
        assert second.version == first.version + 1


def test_the_first_look_at_a_large_fleet_reads_the_same(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(url, now=lambda: START_S) as store:
        for seq in range(3):
            for device in ("porch", "garden", "attic"):
                write(store, seq, START_S - 90 + 30 * seq, device, fps=float(seq), class_counts={"1": 10})
        one_by_one = Wall(store, now=lambda: START_S).refresh().boards
        monkeypatch.setattr("edgekit.fleet.web.wall._MANY", 0)
        wall = Wall(store, now=lambda: START_S)
        assert wall.refresh().boards == one_by_one
        write(store, 3, START_S - 1, fps=9.0, class_counts={"1": 10})
        after = wall.refresh().boards
        assert {key.device: round(b.mix["1"]) for key, b in after.items()} == {"porch": 20, "garden": 10, "attic": 10}


def test_an_older_reading_that_comes_late_does_not_push_the_wall_back(url: str) -> None:
    with Store(url, now=lambda: START_S) as store:
        wall = Wall(store, now=lambda: START_S)
        write(store, 5, START_S - 10, label="now")
        wall.refresh()
        write(store, 4, START_S - 500, label="then")
        assert wall.refresh().boards[BoardKey("home", "porch")].label == "now"


def test_a_clock_that_runs_ahead_does_not_hide_what_comes_after(url: str) -> None:
    with Store(url, now=lambda: START_S) as store:
        write(store, 1, START_S + 40_000, label="future")
        write(store, 2, START_S - 5, label="now")
        assert Wall(store, now=lambda: START_S).refresh().boards[BoardKey("home", "porch")].label == "now"


def test_what_is_missing_and_how_updates_ended_is_counted(url: str) -> None:
    clock = [0.0]
    with Store(url, now=lambda: START_S) as store:
        wall = Wall(store, now=lambda: START_S, clock=lambda: clock[0])
        for seq in (0, 1, 5):
            write(store, seq, START_S - 60 + seq)
        batch = Batch()
        failed = Event(BOOT, 6, utc_text(START_S - 20), "update_failed", "golden self-test failed", {})
        batch.add(topic("home", "porch", EVENT), failed.to_bytes())
        store.write(batch)
        board = wall.refresh().boards[BoardKey("home", "porch")]
        assert (board.missing, board.update_failed) == (3, "update failed: golden self-test failed")
        batch = Batch()
        batch.add(topic("home", "porch", EVENT), Event(BOOT, 7, utc_text(START_S - 1), "updated", None, {}).to_bytes())
        store.write(batch)
        for seq in (2, 3, 4):
            write(store, seq, START_S - 60 + seq)
        clock[0] = 100.0
        board = wall.refresh().boards[BoardKey("home", "porch")]
        assert (board.missing, board.update_failed) == (0, None)


@pytest.mark.parametrize(("turn_s", "rest_s"), [(0.001, 0.5), (0.3, 2.0), (60.0, 4.0)])
def test_a_slow_turn_rests_longer_and_the_wall_never_stands_still_for_long(
    tmp_path: Path, turn_s: float, rest_s: float
) -> None:
    ticks, rests = iter([0.0]), list[float]()
    with Store(sqlite_url(tmp_path / "fleet.db")) as store:
        wall = Wall(store, clock=lambda: next(ticks, turn_s))

        def rest(seconds: float) -> bool:
            rests.append(seconds)
            return True

        wall.run(threading.Event(), 0.5, rest)
    assert rests == [pytest.approx(rest_s)]


def test_a_store_that_goes_away_leaves_the_last_picture_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    with Store(sqlite_url(path)) as store:
        write(store, 0, time.time())
        wall = Wall(store)
        assert len(wall.refresh().boards) == 1
        store.close()
        for file in tmp_path.iterdir():
            file.unlink()
        path.mkdir()
        picture = wall.refresh()
        assert len(picture.boards) == 1
        assert "unable to open" in (picture.problem or "")


def test_the_label_mix_fades_and_starts_anew_with_another_release() -> None:
    import zlib

    def payload(release: str, count: int) -> bytes:
        return zlib.compress(
            replace(reading(0), at=utc_text(START_S), bundle=release, class_counts={"7": count}).to_bytes()
        )

    board = with_reading(BoardNow("home", "porch"), 0, 0, payload("toy-1.0.0", 100))
    later = with_reading(board, 3_600_000, 0, payload("toy-1.0.0", 100))
    assert later.mix == {"7": pytest.approx(150)}
    assert with_reading(later, 3_700_000, 0, payload("toy-1.1.0", 10)).mix == {"7": 10}


def test_short_ranges_are_single_readings_and_holes_are_not_bridged(url: str) -> None:
    with Store(url, now=lambda: START_S) as store:
        for n in (0, 1, 2, 10, 11):
            write(store, n, START_S - 600 + 30 * n, fps=float(n), cpu_temp_c=50.0 + n)
        with store.reading() as connection:
            made = series(connection, 1, span_of("1h", None, None, int(START_S * 1000)))
    assert made.step_ms == 0
    assert made.fps == [0.0, 1.0, 2.0, None, 10.0, 11.0]
    assert made.temp_c == [50.0, 51.0, 52.0, None, 60.0, 61.0]
    assert len({len(made.at), len(made.fps), len(made.p50_ms), len(made.p95_ms), len(made.fps_min)}) == 1


def test_long_ranges_come_from_the_rollups_and_say_the_same(url: str) -> None:
    with Store(url, now=lambda: START_S) as store:
        for n in range(60):
            write(store, n, START_S - 3600 + 60 * n, fps=float(n), cpu_temp_c=50.0)
        to_ms = int(START_S * 1000)
        with store.reading() as connection:
            week = series(connection, 1, Span(to_ms - 7 * 86_400_000, to_ms, True, "7d"))
            month = series(connection, 1, Span(to_ms - 30 * 86_400_000, to_ms, True, "30d"))
    for made in (week, month):
        known = [value for value in made.fps_max if value is not None]
        assert max(known) == 59.0
        assert min(value for value in made.fps_min if value is not None) == 0.0
        assert next(value for value in made.p50_ms if value is not None) == 12.5
        assert set(made.temp_c) <= {50.0, None}
        assert made.temp_c
    assert (week.step_ms, month.step_ms) == (15 * 60_000, 3_600_000)


def test_sparklines_and_events_are_of_the_board_and_the_time_asked_for(url: str) -> None:
    with Store(url, now=lambda: START_S) as store:
        write(store, 0, START_S - 65, fps=10.0)
        write(store, 1, START_S - 5, fps=20.0)
        write(store, 0, START_S - 5, "garden", fps=7.0)
        batch = Batch()
        for n, at_s in enumerate((START_S - 100, START_S - 50_000)):
            batch.add(
                topic("home", "porch", EVENT), Event(BOOT, 2 + n, utc_text(at_s), f"kind{n}", None, {}).to_bytes()
            )
        store.write(batch)
        with store.reading() as connection:
            lines = sparks(connection, [1], int(START_S * 1000))
            events = happened(connection, 1, span_of("1h", None, None, int(START_S * 1000)))
    assert set(lines) == {1}
    assert [value for value in lines[1].fps if value is not None] == [10.0, 20.0]
    assert [found.kind for found in events] == ["kind0"]


@pytest.mark.parametrize(("name", "low", "high"), [("2h", None, None), (None, 5, 5), (None, 0, 10**14), (None, 9, 3)])
def test_a_range_that_is_none_is_refused(name: str | None, low: int | None, high: int | None) -> None:
    with pytest.raises(UsageError):
        span_of(name, low, high, 10**12)


def test_sparklines_have_holes_and_single_points_show() -> None:
    assert spark([]) == spark([None, None]) == []
    assert len(spark([1.0, 1.0, None, 2.0])) == 2
    assert all(" " in line for line in spark([None, 5.0, None]))
    assert number(None) == "–"


def picture(count: int) -> Picture:
    boards = {
        BoardKey(f"site{n % 3}", f"b{n:04d}"): BoardNow(f"site{n % 3}", f"b{n:04d}", n, "online", received_ms=0)
        for n in range(count)
    }
    return Picture(1, boards, 0)


def test_the_wall_is_paged_with_the_worst_on_the_first_page() -> None:
    worst = BoardKey("site2", "b0299")
    shown = choose(picture(300), {worst: (Finding("hot", "warning", "x"),)}, Asked(), lambda site: True)
    cards = [card for group in shown.groups for card in group.cards]
    assert (len(cards), shown.pages, cards[0].board.key) == (PER_PAGE, 5, worst)
    last = choose(picture(300), {}, Asked(page=99), lambda site: True)
    assert last.page == 5


def test_the_wall_is_filtered_grouped_and_bounded_to_what_one_may_see() -> None:
    worst = BoardKey("site2", "b0299")
    findings = {worst: (Finding("camera", "critical", "camera frozen"),)}
    grouped = choose(picture(300), findings, Asked(group="site"), lambda site: True)
    assert grouped.groups[0][0::2] == ("site2", 100)
    assert grouped.groups[0].needing == 1
    assert choose(picture(300), findings, Asked(words="SITE2 frozen"), lambda site: True).found == 1
    assert choose(picture(300), findings, Asked(show="needs"), lambda site: True).found == 1
    mine = choose(picture(300), findings, Asked(), lambda site: site == "site0")
    assert (mine.counts["all"], mine.counts["needs"], mine.sites) == (100, 0, ("site0",))


def test_the_dashboards_tables_of_a_later_version_are_refused(url: str) -> None:
    with Store(url) as store:
        tables.settle(store)
        tables.settle(store)
        with store.writing() as connection:
            connection.execute(tables.version.insert().values(version=99))
        with pytest.raises(StoreSchemaError, match="upgrade edgekit"):
            tables.settle(store)


def test_top_says_the_same_as_the_wall(filled: Path) -> None:
    from rich.console import Console

    from edgekit.fleet import top
    from edgekit.fleet.alerts_rules import Rules

    with Store(sqlite_url(filled)) as store:
        seen = top.look(store, Rules(), {})
    found = top.as_json(seen)
    assert (found["boards"], found["needing"]) == (24, 7)
    assert json.dumps(found)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(top.render(seen, 100, 40))
    lines = console.export_text().splitlines()
    assert "7 need you" in lines[0]
    assert max(map(len, lines)) <= 100


def test_the_newest_reading_is_found_by_the_index_of_times_and_not_by_reading_a_month(tmp_path: Path) -> None:
    with Store(sqlite_url(tmp_path / "fleet.db"), now=lambda: START_S) as store:
        write(store, 0, START_S)
        asked: list[tuple[str, object]] = []
        event.listen(
            store._engine, "before_cursor_execute", lambda c, cursor, text, values, *_: asked.append((text, values))
        )
        Wall(store, now=lambda: START_S).refresh()
        queries = [(text, values) for text, values in asked if "FROM readings" in text]
        assert len(queries) == 2
        with store.reading() as connection:
            for text, values in queries:
                plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values)]
                steps = [line for line in plan if " readings" in line]
                assert steps
                assert all("readings_by_time" in line for line in steps), plan
