"""The dashboard before 10,000 boards: first page, updates, a board's 30 days; and the pictures of the guide.

python tools/run_benches.py --only dashboard [--boards 10000] [--pictures-only]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from edgekit.fleet.alerts_rules import Rules
from edgekit.fleet.batch import Batch, at_ms
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.rollups import DAY_MS, HOUR_MS, MINUTE_MS
from edgekit.fleet.store import Store
from edgekit.fleet.tables import boards, boots, hours, minutes, readings, statuses, stored_ranges
from edgekit.fleet.web.running import DashboardOptions, dashboard
from edgekit.fleet.web.serving import listen
from edgekit_device.contract.clock import utc_text
from edgekit_device.contract.telemetry import Reading
from edgekit_device.contract.topics import TELEMETRY, topic
from tests.worlds.readings import reading
from tests.worlds.showroom import boards as show_boards
from tests.worlds.showroom import fill
from tools.results import RESULTS, ROOT, heading

WINDOW_S, RECENT, TRIES = 30.0, 12, 9
FIRST_PAGE_S, MONTH_CHART_S = 1.0, 0.2
_STEP = 2000


def run(arguments: Sequence[str]) -> None:
    """Measure, and write docs/results/dashboard.md and docs/img."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", type=int, default=10_000)
    parser.add_argument("--flow-s", type=float, default=20.0)
    parser.add_argument("--pictures-only", action="store_true")
    parser.add_argument("--no-pictures", action="store_true")
    args = parser.parse_args(list(arguments))
    if not args.no_pictures:
        pictures(ROOT / "docs" / "img")
    if args.pictures_only:
        return
    with tempfile.TemporaryDirectory(prefix="edgekit-dashboard-") as folder:
        path = Path(folder) / "fleet.db"
        began = time.monotonic()
        make_fleet(sqlite_url(path), args.boards)
        made_s = time.monotonic() - began
        found = measure(sqlite_url(path), args.boards, args.flow_s)
        found["store_bytes"], found["made_s"] = path.stat().st_size, made_s
    write_page(found, args.boards, args.flow_s)


def make_fleet(url: str, count: int) -> None:
    """Rows as the collector writes them: the last minutes of every board, and 30 days of the first."""
    now_ms = int(time.time() * 1000)
    draw = random.Random(12)
    with Store(url) as store:
        names = [{"id": n, "site": f"site-{n % 40:02d}", "device": f"board-{n:05d}"} for n in range(1, count + 1)]
        insert(store, boards, names)
        started = (
            {"id": n, "board": n, "boot": f"{n:032x}", "first_seen": now_ms, "last_seen": now_ms}
            for n in range(1, count + 1)
        )
        insert(store, boots, started)
        states = (
            {
                "board": n,
                "state": "offline" if n % 50 == 0 else "online",
                "boot": f"{n:032x}",
                "bundle": "lite0-1.0.0",
                "delegate": "xnnpack",
                "reason": None,
                "received": now_ms,
                "session": 1,
            }
            for n in range(1, count + 1)
        )
        insert(store, statuses, states)
        insert(store, readings, _recent(names, now_ms, draw))
        insert(store, readings, _month(names[0], now_ms, draw))
        rows = (
            {"board": n, "bucket": now_ms // MINUTE_MS - m, **_rolled(2)}
            for n in range(2, count + 1)
            for m in range(30)
        )
        insert(store, minutes, rows)
        for table, unit in ((minutes, MINUTE_MS), (hours, HOUR_MS)):
            last = now_ms // unit
            insert(
                store,
                table,
                ({"board": 1, "bucket": last - n, **_rolled(unit // 30_000)} for n in range(30 * DAY_MS // unit)),
            )
        insert(
            store, stored_ranges, ({"board": n, "boot": n, "from": 0, "to": RECENT - 1} for n in range(2, count + 1))
        )


def insert(store: Store, table: Any, rows: Any) -> None:
    """Some thousand rows a transaction."""
    some: list[dict[str, Any]] = []
    for row in rows:
        some.append(row)
        if len(some) == _STEP:
            with store.writing() as connection:
                connection.execute(table.insert(), some)
            some = []
    if some:
        with store.writing() as connection:
            connection.execute(table.insert(), some)


def _rolled(count: int) -> dict[str, int]:
    return {
        "readings": count,
        "fps_milli_sum": 29_800 * count,
        "fps_milli_min": 29_000,
        "fps_milli_max": 30_100,
        "inference_milli_sum": 29_800 * count,
        "timed": count,
        "p50_us_sum": 12_500 * count,
        "p95_us_max": 15_000,
    }


def _document(site: str, device: str, number: int, seq: int, at_s: float, draw: random.Random) -> Reading:
    hot = number % 97 == 0
    return replace(
        reading(seq, device, f"{number:032x}"),
        site=site,
        at=utc_text(at_s),
        window_s=WINDOW_S,
        bundle="lite0-1.0.0",
        fps=round((14.0 if number % 61 == 0 else 29.9) - draw.random() / 2, 2),
        cpu_temp_c=round((83.0 if hot else 58.0) + draw.random(), 1),
        class_counts={"281": 600, "282": 200, "285": 90},
        entropy_hist=(800, 60, 20, 10, 4, 0, 0, 0),
        margin_hist=(0, 0, 4, 10, 80, 800),
        rss_bytes=93_000_000,
        disk_free_bytes=12_000_000_000,
        load_1m=1.2,
        throttled_now=(),
        throttled_since_boot=(),
    )


def _row(number: int, document: Reading, received_ms: int) -> dict[str, Any]:
    at = at_ms(document.at)
    latency = {f"{step}_{q}_ms": document.latency_ms[step][q] for step in document.latency_ms for q in ("p50", "p95")}
    return {
        "board": number,
        "boot": number,
        "day": at // DAY_MS,
        "seq": document.seq,
        "at": at,
        "received": received_ms,
        "fps": document.fps,
        "capture_fps": document.capture_fps,
        "inference_fps": document.inference_fps,
        **latency,
        "label": document.label,
        "score": document.score,
        "delegate": document.delegate,
        "bundle": document.bundle,
        "payload": zlib.compress(document.to_bytes()),
    }


def _recent(names: list[dict[str, Any]], now_ms: int, draw: random.Random) -> Iterator[dict[str, Any]]:
    for name in names[1:]:
        for seq in range(RECENT):
            at_s = now_ms / 1000 - (RECENT - 1 - seq) * WINDOW_S - 20 * draw.random()
            yield _row(name["id"], _document(name["site"], name["device"], name["id"], seq, at_s, draw), now_ms)


def _month(name: dict[str, Any], now_ms: int, draw: random.Random) -> Iterator[dict[str, Any]]:
    count = int(30 * 86_400 / WINDOW_S)
    for seq in range(count):
        at_s = now_ms / 1000 - (count - 1 - seq) * WINDOW_S - 1
        yield _row(1, _document(name["site"], name["device"], 1, seq, at_s, draw), now_ms)


def measure(url: str, count: int, flow_s: float) -> dict[str, Any]:
    """Everything through HTTP, as a browser asks for it."""
    found: dict[str, Any] = {}
    with Store(url) as store, listen("127.0.0.1", 0) as listener:
        began = time.monotonic()
        with dashboard(store, listener, DashboardOptions()) as running:
            found["start_s"] = time.monotonic() - began
            with httpx.Client(base_url=running.origin, trust_env=False, timeout=60, follow_redirects=True) as browser:
                browser.get(running.url)
                board = "/boards/site-01/board-00001"
                for name, path in (
                    ("first page", "/"),
                    ("page 100", "/?page=100"),
                    ("grouped by site", "/?group=site"),
                    ("a search", "/?q=board-00123"),
                    ("a board's page", board),
                    ("alerts", "/alerts"),
                    ("30 days", f"/api/v1{board}/series?range=30d"),
                    ("7 days", f"/api/v1{board}/series?range=7d"),
                    ("24 hours", f"/api/v1{board}/series?range=24h"),
                    ("1 hour", f"/api/v1{board}/series?range=1h"),
                    ("/metrics", "/metrics"),
                ):
                    found[name] = timed(lambda path=path: browser.get(path).raise_for_status())  # type: ignore[misc]
                found["flow"] = flow(browser, url, count, flow_s)
            found["rss_bytes"] = _rss_bytes()
            running.context.wall.refresh()  # Takes in what the flow left.
            started = time.monotonic()
            running.context.wall.refresh()
            found["turn_s"] = time.monotonic() - started
    return found


def timed(ask: Callable[[], httpx.Response]) -> dict[str, float]:
    """Median and worst of some tries, and the size."""
    seconds, size = [], 0
    for _ in range(TRIES):
        began = time.monotonic()
        size = len(ask().content)
        seconds.append(time.monotonic() - began)
    return {"median_s": statistics.median(seconds), "worst_s": max(seconds), "bytes": size}


def flow(browser: httpx.Client, url: str, count: int, seconds: float) -> dict[str, float]:
    """Every board sends each half minute; how long until a browser is told of one that it looks at."""
    stop, committed = threading.Event(), dict[str, float]()
    lags: list[float] = []
    written = [0]

    def write() -> None:
        draw, number, seq = random.Random(1), 2, RECENT
        with Store(url) as store:
            while not stop.is_set():
                began, batch = time.monotonic(), Batch()
                for _ in range(max(1, count // 60)):
                    number = number + 1 if number < count else 2
                    _add(batch, number, seq + written[0], draw)
                mark = f"mark-{written[0]}"
                document = replace(
                    _document("site-03", "board-00003", 3, seq + written[0], time.time(), draw), label=mark
                )
                batch.add(topic("site-03", "board-00003", TELEMETRY), document.to_bytes())
                store.write(batch)
                committed[mark] = time.monotonic()
                written[0] += len(batch)
                stop.wait(max(0.0, 0.5 - (time.monotonic() - began)))

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    until = time.monotonic() + seconds
    with browser.stream("GET", "/stream/wall?q=board-00003") as stream:
        for line in stream.iter_lines():
            if line.startswith("data:"):
                html = json.loads(line[5:])["html"]
                newest = max((m for m in list(committed) if f"{m}<" in html), key=lambda m: committed[m], default=None)
                if newest:
                    lags.append(time.monotonic() - committed[newest])
                    for mark in [m for m in committed if committed[m] <= committed[newest]]:
                        del committed[mark]
            if time.monotonic() > until:
                break
    stop.set()
    writer.join()
    return {
        "events": len(lags),
        "median_s": statistics.median(lags) if lags else float("nan"),
        "worst_s": max(lags, default=float("nan")),
        "messages_per_s": written[0] / seconds,
    }


def _add(batch: Batch, number: int, seq: int, draw: random.Random) -> None:
    site, device = f"site-{number % 40:02d}", f"board-{number:05d}"
    document = _document(site, device, number, seq, time.time(), draw)
    batch.add(topic(site, device, TELEMETRY), document.to_bytes())


def _rss_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


def pictures(folder: Path) -> None:
    """The guide's pictures, from a fleet that is not there."""
    import shutil

    from playwright.sync_api import sync_playwright

    folder.mkdir(exist_ok=True)
    program = shutil.which("chromium") or shutil.which("google-chrome")
    views = (
        ("dashboard", "/", 1280, 860, "light"),
        ("dashboard-dark", "/?group=site", 1280, 860, "dark"),
        ("dashboard-board", "/boards/orchard/row-02", 1280, 1010, "light"),
        ("dashboard-alerts", "/alerts", 1280, 620, "dark"),
        ("dashboard-phone", "/", 390, 844, "light"),
        ("dashboard-phone-board", "/boards/orchard/row-02", 390, 844, "dark"),
    )
    with tempfile.TemporaryDirectory(prefix="edgekit-pictures-") as place, sync_playwright() as driver:
        url = sqlite_url(Path(place) / "fleet.db")
        fill(url, show_boards())
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        options = DashboardOptions(rules=Rules(raise_s={}))
        with Store(url) as store, listen("127.0.0.1", 0) as listener, dashboard(store, listener, options) as running:
            for name, path, width, height, scheme in views:
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
                page = context.new_page()
                page.goto(running.url)
                page.goto(running.origin + path)
                page.wait_for_selector("html[data-heard]", state="attached")
                if "/boards/" in path:
                    page.wait_for_selector("#charts[data-drawn] canvas")
                page.screenshot(path=str(folder / f"{name}.png"))
                context.close()
        browser.close()


_PICTURES = (
    ("dashboard", "What is wrong first"),
    ("dashboard-dark", "The same by site, in the dark"),
    ("dashboard-board", "A board that lost its Edge TPU: the mark on the time axis is the event"),
    ("dashboard-alerts", "Alerts"),
    ("dashboard-phone", "On a phone"),
    ("dashboard-phone-board", "A board on a phone"),
)


def write_page(found: dict[str, Any], count: int, flow_s: float) -> None:
    """docs/results/dashboard.md."""
    megabytes, moving = found["store_bytes"] / 1e6, found["flow"]
    packages = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "jinja2")
    lines = heading("The dashboard", "python tools/run_benches.py --only dashboard", *packages)
    lines += [
        f"{count} boards that are not there, in one SQLite file of {megabytes:.0f} MB: each with its last",
        f"{RECENT} Readings and half an hour of minutes, the first with 30 days at one Reading in {WINDOW_S:.0f} s.",
        f"Asked through HTTP, {TRIES} times each, in the process that also serves. Boards are simulated; no",
        "Raspberry Pi was involved.",
        "",
        "| asked for | median | worst | size | pass figure |",
        "|---|---|---|---|---|",
    ]
    limits = {"first page": FIRST_PAGE_S, "30 days": MONTH_CHART_S}
    for name, value in found.items():
        if isinstance(value, dict) and "bytes" in value:
            times = f"{value['median_s'] * 1000:.0f} ms | {value['worst_s'] * 1000:.0f} ms"
            verdict = _verdict(value["median_s"], limits.get(name))
            lines.append(f"| {name} | {times} | {value['bytes'] / 1e3:.0f} kB | {verdict} |")
    lines += [
        "",
        f"- From the start to the first page that could be asked for, every board read: {found['start_s']:.2f} s.",
        f"- One look at the store when nothing is new: {found['turn_s'] * 1000:.0f} ms; it rests six times as long,",
        "  4 s at most.",
        f"- While {moving['messages_per_s']:.0f} messages/s were stored for {flow_s:.0f} s by the same process,",
        f"  a browser was told {moving['events']} times of a board that it looked at: {moving['median_s']:.1f} s after",
        f"  the commit (median), {moving['worst_s']:.1f} s at worst.",
        f"- Memory of the process at the end, with this measurement in it: {found['rss_bytes'] / 1e6:.0f} MB.",
        "",
        "## Pictures",
        "",
        "Two dozen boards that are not there, seven of them with a trouble each; `--pictures-only` makes them again.",
        "",
    ]
    for name, words in _PICTURES:
        lines += [f"![{words}](../img/{name}.png)", ""]
    (RESULTS / "dashboard.md").write_text("\n".join(lines).rstrip() + "\n", "utf-8")


def _verdict(seconds: float, limit_s: float | None) -> str:
    if limit_s is None:
        return ""
    return f"{limit_s * 1000:.0f} ms: {'passed' if seconds <= limit_s else '**not passed**'}"
