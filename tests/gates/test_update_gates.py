"""The gates of bundles and slots, each in the size of a test; `make gates` runs them whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worlds import trial_states
from tests.worlds.archives import attacks, honest
from tests.worlds.bundle_mutations import mutate_bundles
from tests.worlds.bundles import Signer
from tests.worlds.races import race, sparse
from tools.gates import a1, a2, a3, a8, d1, d3

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer.make(tmp_path / "keys")


def test_no_archive_of_the_table_writes_a_byte_and_each_is_refused_by_name() -> None:
    found = d3.run([])
    assert found["passed"], found["detail"]
    assert len(attacks()) >= 50


def test_every_attack_is_another_file_than_the_honest_one() -> None:
    made = [*attacks().values(), honest()]
    assert len(set(made)) == len(made)


def test_mutated_bundles_end_in_a_name_and_in_no_time(signer: Signer) -> None:
    found = mutate_bundles(4000, signer, seed=1)
    assert not found["unnamed"]
    assert not found["over_100_ms"], found["slowest_ms"]
    assert {"FieldError", "SchemaError", "BundleFormatError", "BadSignatureError"} <= set(found["named"])
    assert found["verified"]


def test_bytes_that_nobody_signed_are_never_used_however_the_file_is_swapped(tmp_path: Path, signer: Signer) -> None:
    found = race(100, tmp_path, signer)
    assert found["unverified"] == found["unnamed"] == 0
    assert found["swaps"] and found["refused"]


def test_a_sparse_giant_is_refused_before_it_is_read(tmp_path: Path, signer: Signer) -> None:
    assert sparse(tmp_path, signer) == "BundleFormatError"


def test_mutated_models_behind_a_valid_signature_end_their_child_only(tmp_path: Path) -> None:
    state = tmp_path / "state.jsonl"
    found = d1.run(["--count", "60", "--toys", "--state", str(state)])
    assert found["passed"], found["figure"]
    made = state.read_text()
    again = d1.run(["--count", "60", "--toys", "--state", str(state)])
    assert (again["figure"], state.read_text()) == (found["figure"], made), "a run that was cut off goes on"


def test_models_that_crash_or_hang_end_their_child_and_are_told_apart() -> None:
    code = (
        "import json; from tests.worlds import model_nursery as n; from tests.worlds.trial_board import *;"
        "from tests.worlds.model_mutations import seed_bundle; from edgekit_device.bundle import parse_bundle;"
        "n.DEADLINE_S = 1.0; b = parse_bundle(seed_bundle('toy', TOY), 'toy', '');"
        "print(json.dumps([n.attempt(b, m, 'xnnpack')['problem'] for m in"
        " (TOY, edited(Edit.crash_at_load), edited(lambda e: e.trap()), edited(lambda e: e.loop(None)))]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    assert said == [None, "crashed with SIGSEGV", "crashed with SIGSEGV", "hung: no answer within 1.0 s"]


def test_bad_models_that_pass_every_check_at_installing_are_rolled_back_by_the_service() -> None:
    for kind in ("constant", "memory"):
        found = a8.run(["--quick", "--only", kind])
        assert found["passed"], found["detail"]


def test_some_cells_of_the_state_table_end_as_promised() -> None:
    cases = {case.name for case in trial_states.table()}
    assert len(cases) == 121
    for name in (
        "kill at run watch",
        "error at enter swap",
        "kill for ever at leave shadow",
        "read-only at run commit",
    ):
        assert name in cases
        found = a3.run(["--only", name])
        assert found["passed"], found["detail"]


def test_a_fault_in_any_system_call_leaves_a_board_that_works(require_tool) -> None:
    require_tool("strace", "apt install strace")
    found = a1.run(["--state", "raises the security epoch", "--every", "9"])
    assert found["passed"], found["detail"]


def test_every_disk_that_a_power_cut_may_leave_boots_a_signed_model(require_tool) -> None:
    require_tool("strace", "apt install strace")
    found = a2.run(["--state", "one release", "--every", "3"])
    assert found["passed"], found["detail"]
