"""A release that is new to a board is tried beside the old one, and stays only if it is as good."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from edgekit_device import slots
from edgekit_device.bundle import open_bundle
from edgekit_device.contract.errors import RejectedReleaseError, UsageError
from edgekit_device.ground import Ground, open_release
from edgekit_device.judging import Measured, Rules, judge_memory, judge_speed, label_shift, parse_rules
from edgekit_device.trial import Trial
from edgekit_device.verdicts import (
    COMMITTED,
    MAX_ATTEMPTS,
    NAME,
    PENDING,
    REJECTED,
    Verdict,
    keep_verdict,
    read_verdicts,
    trusted,
    verdict_of,
)
from edgekit_device.world import changes, world
from tests.worlds.bundles import Signer
from tests.worlds.trial_board import Board, Recipe, bad_recipes

sys.path.insert(0, str(Path(__file__).parent))
import runs
import test_delegates
from conftest import Workshop

library, twins, stick = test_delegates.library, test_delegates.bundle, test_delegates.world

OLD, NEW = "toy-1.0.0", "toy-2.0.0"


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    """A board that serves a committed release."""
    with Board(tmp_path) as made:
        made.committed()
        yield made


# -- verdicts of figures


def test_a_model_is_rejected_for_capacity_latency_or_memory_and_not_for_nothing() -> None:
    old, rules = Measured(100, 10.0, 12.0), Rules()
    assert judge_speed(old, Measured(100, 12.4, 15.0), rules) is None
    assert "capacity: 78.1 inferences/s are 0.78 of" in (judge_speed(old, Measured(100, 12.8, 13.0), rules) or "")
    assert "latency: invoke p95 18.1 ms" in (judge_speed(old, Measured(100, 10.0, 18.1), rules) or "")
    assert judge_speed(Measured(100, 0.1, 0.2), Measured(100, 0.9, 1.1), rules) is None, (
        "below a millisecond is nothing"
    )
    assert judge_memory(100 << 20, 200 << 20, rules) is None
    assert "2.1 times" in (judge_memory(100 << 20, 210 << 20, rules) or "")
    assert judge_memory(0, 1 << 40, rules) is None, "nothing to compare with"


def test_labels_in_another_proportion_are_measured() -> None:
    assert label_shift({"a": 5, "b": 5}, {"b": 5, "a": 5}) == 0.0
    assert label_shift({"a": 10}, {"b": 10}) == 1.0
    assert label_shift({"a": 10}, {"a": 5, "b": 5}) == 0.5


def test_limits_of_a_trial_are_read_from_one_word() -> None:
    assert parse_rules("window_s=3, label_shift_fails=1") == replace(Rules(), window_s=3.0, label_shift_fails=True)
    assert parse_rules("") == Rules() and Rules().window_s == 45.0
    for wrong in ("window=3", "window_s=soon", "window_s=-1", "window_s=nan"):
        with pytest.raises(UsageError, match="--trial"):
            parse_rules(wrong)


# -- the journal


def held(folder: Path, *versions: str) -> tuple[Path, Signer]:
    signer, root = Signer.make(folder / "keys"), folder / "slots"
    for version in versions:
        slots.install(root, signer.bundle(folder, version=version), [signer.public])
    return root, signer


def test_a_rejected_release_is_left_and_not_entered_again_until_forced(tmp_path: Path) -> None:
    root, signer = held(tmp_path, "1.0.0", "1.0.1", "2.0.0")
    bad = tmp_path / "toy-2.0.0.edgekit"
    sha = open_bundle(bad, [signer.public])[0].sha256
    now = slots.judge(root, "toy-2.0.0", Verdict(sha, REJECTED, reason="too slow"))
    assert now and now.bundle_id == "toy-1.0.1"
    assert slots.previous(root) == slots.Slot("toy-1.0.0", root / "releases" / "toy-1.0.0"), "not back to the bad one"
    with pytest.raises(RejectedReleaseError, match=r"too slow.*install --force"):
        slots.install(root, bad, [signer.public])
    for version in ("1.0.2", "1.0.3", "1.0.4"):
        slots.install(root, signer.bundle(tmp_path, version=version), [signer.public])
    assert "toy-2.0.0" not in {slot.bundle_id for slot in slots.list_slots(root)}
    with pytest.raises(RejectedReleaseError):
        slots.install(root, bad, [signer.public])
    assert slots.install(root, bad, [signer.public], force=True).bundle_id == "toy-2.0.0"
    assert verdict_of(root, "toy-2.0.0") == Verdict(sha, PENDING, forced=True)


def test_other_bytes_under_the_name_of_a_rejected_release_are_another_release(tmp_path: Path) -> None:
    root, signer = held(tmp_path, "1.0.0")
    keep_verdict(root, "toy-2.0.0", Verdict("0" * 64, REJECTED, reason="too slow"))
    slots.install(root, signer.bundle(tmp_path, version="2.0.0"), [signer.public])
    assert verdict_of(root, "toy-2.0.0").state == PENDING


def test_the_trusted_release_is_the_committed_one_entered_last_and_is_never_dropped(tmp_path: Path) -> None:
    root, signer = held(tmp_path, "1.0.0", "1.0.1")
    before = trusted(root)
    assert before and before.bundle_id == "toy-1.0.0", "nobody has judged: what was current before"
    keep_verdict(root, "toy-1.0.1", Verdict("", COMMITTED))
    for version in ("1.0.2", "1.0.3", "1.0.4"):
        slots.install(root, signer.bundle(tmp_path, version=version), [signer.public])
        back = trusted(root)
        assert back and back.bundle_id == "toy-1.0.1"
    assert len(slots.list_slots(root)) == slots.MAX_RELEASES


def test_a_cut_between_verdict_and_link_is_mended_at_the_next_start(tmp_path: Path) -> None:
    root, _ = held(tmp_path, "1.0.0", "2.0.0")
    keep_verdict(root, "toy-2.0.0", Verdict("", REJECTED, reason="crash"))
    now = slots.recover(root)
    assert now and now.bundle_id == "toy-1.0.0"


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b"\xff\0", b'{"releases": {"toy-1.0.0": {"state": "fine"}}}', b"[" * 9999]
)
def test_a_damaged_journal_counts_as_empty(tmp_path: Path, damage: bytes) -> None:
    root, _ = held(tmp_path, "1.0.0", "2.0.0")
    keep_verdict(root, "toy-2.0.0", Verdict("", COMMITTED))
    (root / NAME).write_bytes(damage)
    assert read_verdicts(root) == {}
    back = trusted(root)
    assert back and back.bundle_id == "toy-1.0.0"
    keep_verdict(root, "toy-2.0.0", Verdict("", COMMITTED))
    assert read_verdicts(root)["toy-2.0.0"].state == COMMITTED


def test_what_a_proof_holds_for_is_named_when_it_changes(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('ID=debian\nPRETTY_NAME="Debian 12"\n')
    here = world(release)
    assert here["system"] == "Debian 12" and {"kernel", "machine", "numpy"} <= set(here)
    assert changes(here, here) is None and changes({}, here) is None
    assert changes({**here, "kernel": "1.0"}, {**here, "numpy": "9"}) == (
        f"kernel 1.0 -> {here['kernel']}, numpy {here['numpy']} -> 9"
    )


# -- the service


def test_a_good_release_is_taken_up_beside_the_old_one_and_no_reading_is_a_mixture(
    board: Board, tmp_path: Path
) -> None:
    board.start("--results", f"unix:{tmp_path}/nobody")
    board.wait_reading(OLD)
    worker = runs.children(board.pid)
    assert board.verb("install", str(board.bundle(Recipe(), "2.0.0"))).returncode == 0
    board.wait(f"update_committed: {NEW}")
    board.wait_reading(NEW)
    assert set(worker) <= set(runs.children(board.pid)), "the camera stayed open: it is the same worker"
    order = [bundle for bundle, _ in groupby(reading["bundle"] for reading in board.readings)]
    assert order == [OLD, NEW]
    assert all(sum(r["class_counts"].values()) == round(r["inference_fps"] * r["window_s"]) for r in board.readings)
    status = board.status()
    assert (status["status"]["bundle"], status["status"]["reason"]) == (NEW, None)
    assert status["slots"]["verdicts"][NEW]["state"] == COMMITTED
    assert f"{NEW} (current, committed)" in board.verb("status").stdout


def test_a_slower_model_is_rolled_back_by_name_and_forced_it_stays_with_a_warning(board: Board) -> None:
    path = board.bundle(bad_recipes()["half the FPS"], "2.0.0")
    board.start()
    board.wait_reading(OLD)
    assert board.verb("install", str(path)).returncode == 0, "its golden vectors are right"
    board.wait(f"model_swapped: {OLD} -> {NEW}")
    board.wait(f"update_rejected: {NEW}: capacity: .* of the model before")
    board.wait_reading(OLD)
    assert (board.current, board.verdict(NEW).state) == (OLD, REJECTED)
    again = board.verb("install", str(path))
    assert again.returncode == 3 and "install --force" in again.stderr
    assert board.verb("rollback").returncode == 1, "nothing but the bad one to go back to"
    mark = len(board.said)
    assert board.verb("install", str(path), "--force").returncode == 0
    board.wait(f"update_warning: {NEW}: capacity", after=mark)
    board.wait(f"update_committed: {NEW}", after=mark)
    assert board.verb("rollback").returncode == 0
    # A release that has passed is entered without another trial.
    mark = len(board.said)
    board.wait(f"model_swapped: {NEW} -> {OLD}", after=mark - 1)
    board.wait(f"update_committed: {OLD}", after=mark - 1)
    board.wait_reading(OLD)


def test_a_model_that_dies_on_a_live_frame_ends_its_worker_only_and_the_old_one_serves(board: Board) -> None:
    board.start()
    board.wait_reading(OLD)
    board.enter(board.bundle(bad_recipes()["crash on a live frame"], "2.0.0"))
    board.wait(f"update_rejected: {NEW}: (shadow|watch): worker_died: SIGSEGV")
    board.wait_reading(OLD)
    assert (board.alive, board.current) == (True, OLD)
    reported = board.status()["status"]["reason"]
    assert NEW in reported


def test_a_camera_that_is_away_keeps_a_trial_waiting_and_rejects_nothing(board: Board) -> None:
    board.start("--fault", "vanish@0s+2s", source="camera:fake")
    board.enter(board.bundle(Recipe(), "2.0.0"))
    board.wait(f"update_started: {NEW}")
    board.wait(f"update_committed: {NEW}")
    assert not any("update_rejected" in line for line in board.said)


def test_a_stop_in_the_middle_is_no_attempt_and_three_power_cuts_are_the_end(board: Board) -> None:
    board.enter(board.bundle(Recipe(), "2.0.0"))
    board.start(trial="window_s=600")
    board.wait("update_started")
    board.end()
    assert board.verdict(NEW).attempts == 0
    for attempt in range(1, MAX_ATTEMPTS + 1):
        board.start(trial="window_s=600")
        board.wait("update_started")
        board.end(9)
        assert board.verdict(NEW).attempts == attempt
    board.start()
    board.wait(f"update_rejected: {NEW}: interrupted: its trial was cut off {MAX_ATTEMPTS} times")
    board.wait_reading(OLD)
    assert board.current == OLD


def test_the_first_release_of_a_board_serves_at_once_and_is_committed_by_serving(tmp_path: Path) -> None:
    with Board(tmp_path) as board:
        board.enter(board.bundle(Recipe(), "1.0.0"))
        board.start(trial="window_s=1")
        board.wait(f"model_ready: {OLD}")
        board.wait(f"update_committed: {OLD}")
        assert board.verdict(OLD).world == world()


def test_a_changed_world_is_noted_when_the_golden_photos_were_reproduced_in_it(board: Board) -> None:
    old = board.verdict(OLD)
    slots.judge(board.place, OLD, replace(old, world={**world(), "kernel": "4.19.0"}))
    board.start()
    board.wait(rf"model_reproved: {OLD} reproduces its golden images after: kernel 4\.19\.0 -> ")
    assert board.verdict(OLD).world == world()


def test_a_release_that_no_longer_works_in_a_changed_world_makes_way_for_the_one_before(board: Board) -> None:
    """As when an interpreter is replaced: committed, and yet its golden photos are not reproduced."""
    path = board.bundle(bad_recipes()["golden below the floor"], "2.0.0")
    board.enter(path)
    sha = open_bundle(path, [board.signer.public])[0].sha256
    slots.judge(board.place, NEW, Verdict(sha, COMMITTED, world={**world(), "ai-edge-litert": "0.1"}))
    board.start()
    line = board.wait(f"update_rejected: {NEW}: model: ")
    assert "since it was proved: ai-edge-litert 0.1 -> " in line
    board.wait_reading(OLD)
    assert board.current == OLD


def test_a_damaged_release_makes_way_for_the_one_before(board: Board) -> None:
    board.committed("2.0.0")
    slot = slots.current(board.place)
    assert slot
    slot.bundle_path.write_bytes(slot.bundle_path.read_bytes()[:-1])
    board.start()
    board.wait(f"{NEW} cannot serve: ")
    board.wait_reading(OLD)


def test_with_an_edgetpu_the_cpu_twin_serves_while_the_new_model_is_tried(
    twins: tuple[Path, Path], stick: dict[str, str], workshop: Workshop, tmp_path: Path
) -> None:
    with Board(tmp_path) as board:
        (board.root / "etc/edgekit/keys/b.pub").write_bytes(twins[1].read_bytes())
        keys, second = [twins[1]], tmp_path / "colours-1.1.0.edgekit"
        bundle, _ = open_bundle(twins[0], keys)
        manifest = replace(bundle.manifest, version="1.1.0")
        replace(workshop, files=bundle.files, manifest=manifest).write(second)
        slots.install(board.place, twins[0], keys)
        slots.judge(board.place, "colours-1.0.0", Verdict(bundle.sha256, COMMITTED))
        board.start(**stick)
        board.wait("model_ready: colours-1.0.0 on edgetpu")
        board.wait_reading("colours-1.0.0")
        slots.install(board.place, second, keys)
        board.wait("model_swapped: colours-1.0.0 -> colours-1.0.0 on xnnpack")
        board.wait("model_swapped: colours-1.0.0 -> colours-1.1.0 on edgetpu")
        board.wait("update_committed: colours-1.1.0")
        assert board.wait_reading("colours-1.1.0")["delegate"] == "edgetpu"
        served = [(r["bundle"], r["delegate"]) for r in board.readings if r["fps"] > 0]
        assert [pair for pair, _ in groupby(served)] == [
            ("colours-1.0.0", "edgetpu"), ("colours-1.0.0", "xnnpack"), ("colours-1.1.0", "edgetpu"),
        ]  # fmt: skip
        assert not any("worker_died" in line for line in board.said), "two processes never held the stick at a time"


def test_the_supervisor_knows_neither_opencv_nor_an_interpreter(board: Board) -> None:
    board.start()
    board.wait_reading(OLD)
    board.enter(board.bundle(Recipe(), "2.0.0"))
    board.wait(f"update_committed: {NEW}")
    mapped = Path(f"/proc/{board.pid}/maps").read_text()
    assert "cv2" not in mapped and "_pywrap" not in mapped and "numpy" not in mapped
    assert json.loads((board.place / NAME).read_text())["schema"] == 1


def test_another_install_in_the_middle_of_a_trial_cancels_it_without_a_verdict(board: Board) -> None:
    board.start(trial="window_s=600")
    board.wait_reading(OLD)
    board.enter(board.bundle(Recipe(), "2.0.0"))
    board.wait(f"model_swapped: {OLD} -> {NEW}")
    board.enter(board.bundle(Recipe(), "3.0.0"))
    board.wait(f"update_cancelled: {NEW}")
    board.wait("update_started: toy-3.0.0; toy-1.0.0 serves meanwhile")
    board.wait("model_swapped: toy-1.0.0 -> toy-3.0.0")
    assert board.verdict(NEW) == replace(board.verdict(NEW), state=PENDING, attempts=0)


class Stage:
    """A supervisor that only listens: what a trial decides from figures needs no clock."""

    rung, layout, pace_s = "xnnpack", {"threads": 1, "lanes": 1}, 0.03

    def __init__(self) -> None:
        self.served = 0.0
        self.told: list[str] = []
        self.events: list[str] = []

    def tell(self, cmd: str, **_: object) -> None:
        self.told.append(cmd)

    def event(self, kind: str, reason: str | None, **_: object) -> None:
        self.events.append(f"{kind}: {reason}")


@pytest.mark.parametrize(("old_now_ms", "ends"), [(39.0, "commit"), (10.0, "rollback")])
def test_a_model_that_looks_slow_is_compared_with_the_old_one_at_the_same_time(
    tmp_path: Path, workshop: Workshop, old_now_ms: float, ends: str
) -> None:
    """A board that is busy slows both down; a slow model is slow beside a fast one."""
    root, stage = tmp_path / "slots", Stage()
    path = workshop.write(tmp_path / "toy-1.0.0.edgekit")
    slot = slots.install(root, path, [workshop.public])
    release = open_release(slot, [workshop.public])
    trial = Trial(Ground(root, (workshop.public,)), stage, release, slot, Verdict(release.bundle.sha256, attempts=1))  # type: ignore[arg-type]
    trial.tick(0.0)
    trial.hear({"type": "measured", "bundle": "toy-1.0.0", "frames": 30, "p50_ms": 10.0, "p95_ms": 12.0, "odd": 0})
    assert trial.state == "prove"
    trial._enter("watch")
    slow = {"type": "measured", "bundle": "toy-1.0.0", "frames": 500, "p50_ms": 40.0, "p95_ms": 45.0, "odd": 0}
    for second in range(1, 30):
        stage.served += 30
        trial.tick(float(second))
    trial.hear(slow)
    assert (trial.state, stage.told[-2:]) == ("watch", ["measure", "duel"]), "no verdict yet"
    same_time = {"frames": 20, "p50_ms": old_now_ms, "p95_ms": old_now_ms * 1.1, "old": {}, "new": {}}
    trial.hear({"type": "shadowed", "bundle": "toy-1.0.0", **same_time})
    for second in range(30, 60):
        stage.served += 30
        trial.tick(float(second))
    trial.hear(slow)
    assert trial.state == ends
