"""E3: what boards say is text and never a script. The gate tries all of them; here a few of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.fleet.web.board_now import BoardNow
from edgekit.fleet.web.drawing import plain
from edgekit.fleet.web.metrics import MOST_BOARDS, metrics
from edgekit.fleet.web.wall import Picture
from tests.worlds.hostile_pages import hostile_fleet, look
from tests.worlds.hostile_texts import hostile_texts


def test_hostile_text_from_boards_never_runs(chromium: Any, tmp_path: Path) -> None:
    texts = hostile_texts()[::10]
    assert len(texts) >= 20
    with hostile_fleet(tmp_path, texts) as world:
        seen = look(chromium, world, texts, each_board=5)
    assert (seen.ran, seen.violations, seen.foreign, seen.errors) == ([], [], [], [])
    assert seen.texts > len(texts)


def test_there_are_two_hundred_of_them() -> None:
    assert len(set(hostile_texts())) >= 200


def test_direction_marks_and_control_characters_are_shown_as_such() -> None:
    assert (
        plain("a\u202eb\x1b[31m\n")
        == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}"
    )
    assert len(plain("x" * 5000)) == 300


def test_boards_cannot_multiply_the_labels_of_metrics() -> None:
    boards = [
        BoardNow("home", f"b{n}", n, "online", release=f'x"\n{n}', delegate=f"d{n}", fps=1.0, received_ms=0)
        for n in range(3000)
    ]
    text = metrics(Picture(1, {board.key: board for board in boards}, 0), {}, {})
    assert sum(line.startswith("edgekit_board_fps{") for line in text.splitlines()) == MOST_BOARDS
    assert sum(line.startswith("edgekit_boards_by_release{") for line in text.splitlines()) == 51
    assert "edgekit_boards_left_out 1000" in text
    for line in text.splitlines():
        assert line.startswith(("#", "edgekit_")), line


def test_labels_of_metrics_are_escaped() -> None:
    board = BoardNow("home", "a", 1, "online", release='x"} 1\nedgekit_fake{a="\\', received_ms=0)
    text = metrics(Picture(1, {board.key: board}, 0), {}, {})
    assert 'edgekit_boards_by_release{release="x\\"} 1\\nedgekit_fake{a=\\"\\\\"} 1' in text
    assert "\nedgekit_fake" not in text
