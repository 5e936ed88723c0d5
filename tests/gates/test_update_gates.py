"""The gates of bundles and slots, each in the size of a test; `make gates` runs them whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worlds.archives import attacks, honest
from tests.worlds.bundle_mutations import mutate_bundles
from tests.worlds.bundles import Signer
from tests.worlds.races import race, sparse
from tools.gates import a1, a2, d3


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


def test_mutated_models_behind_a_valid_signature_end_their_child_only() -> None:
    # In a process of its own: a child's peak memory counts its parent's as well, and pytest's may hold TensorFlow.
    code = "import json; from tools.gates.d1 import run; print(json.dumps(run(['--count', '10'])))"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["passed"], found["figure"]


def test_a_fault_in_any_system_call_leaves_a_board_that_works(require_tool) -> None:
    require_tool("strace", "apt install strace")
    found = a1.run(["--state", "raises the security epoch", "--every", "9"])
    assert found["passed"], found["detail"]


def test_every_disk_that_a_power_cut_may_leave_boots_a_signed_model(require_tool) -> None:
    require_tool("strace", "apt install strace")
    found = a2.run(["--state", "one release", "--every", "3"])
    assert found["passed"], found["detail"]
