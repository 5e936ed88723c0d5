"""The import arrows of the house: who may know whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = {
    "zoo", "training", "compression", "conversion", "verification", "reporting", "bundling", "flashing", "trust",
    "fleet", "publishing",
}  # fmt: skip
# Only these put stages together.
COMPOSERS = {
    "__main__",
    "pipeline",
    "origins",
    "records",
    "preprocessing",
    "demonstration",
    "evaluation_run",
    "gating",
    "labelling",
    "refining",
    "diagnosis",
    "enlisting",
    "card_making",
    "calibration_check",
    "report_run",
    "report_facts",
    "report_comparison",
    "mixed_cost",
    "weight_report",
    "training_run",
    "run_writing",
    "runtime_making",
    "compressing",
    "pruning_study",
    "teachers",
    "cli",
    "__init__",
    "doctor",
}
HEAVY = {"tensorflow", "keras", "cv2", "rich", "ai_edge_litert", "tflite_runtime", "numpy", "sqlalchemy", "iotcore"}
STDLIB = sys.stdlib_module_names


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(module, whether the import runs when the file is imported) of every import in a file."""
    tree = ast.parse(path.read_text("utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.dump(block.test)
        for node in ast.walk(block)
    }
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the arrows"
            yield from ((f"{node.module}.{alias.name}", id(node) in top) for alias in node.names)


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", modules("device/edgekit_device"), ids=lambda p: p.stem)
def test_the_device_never_imports_the_host(path: Path) -> None:
    found = [name for name, _ in imports(path) if name.split(".")[0] in {"edgekit", "tensorflow", "keras", "torch"}]
    assert not found


@pytest.mark.parametrize("path", modules("device/edgekit_device/contract"), ids=lambda p: p.stem)
def test_the_contract_is_standard_library_only(path: Path) -> None:
    foreign = [
        name
        for name, _ in imports(path)
        if name.split(".")[0] not in STDLIB and not name.startswith("edgekit_device.contract")
    ]
    assert not foreign


@pytest.mark.parametrize("path", modules("edgekit"), ids=lambda p: str(p.relative_to(ROOT)))
def test_stage_packages_never_import_one_another(path: Path) -> None:
    place = path.relative_to(ROOT / "edgekit").with_suffix("").parts
    if place[0] in COMPOSERS:
        return
    stage = place[0] if place[0] in STAGES else None
    for name, _ in imports(path):
        parts = name.split(".")
        if parts[0] == "edgekit" and len(parts) > 1 and parts[1] in STAGES | {"pipeline", "demonstration", "cli"}:
            assert parts[1] == stage, f"{path.name} of {stage or 'the shared floor'} knows {name}"


@pytest.mark.parametrize("path", modules("edgekit"), ids=lambda p: str(p.relative_to(ROOT)))
def test_tensorflow_is_imported_late(path: Path) -> None:
    assert not [name for name, at_once in imports(path) if at_once and name.split(".")[0] in {"tensorflow", "keras"}]


def test_only_one_room_imports_an_interpreter() -> None:
    for path in modules("device/edgekit_device") + modules("edgekit"):
        if path.parent.name == "infer":
            continue
        assert not [n for n, _ in imports(path) if n.split(".")[0] in {"ai_edge_litert", "tflite_runtime"}], path


def loaded_by(words: str) -> set[str]:
    code = f"import sys; {words}; print(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "words",
    [
        "from edgekit.cli import main; main(['--help'])",
        "import edgekit",
        "from edgekit_device.cli import parser; parser().format_help()",
    ],
)
def test_help_loads_nothing_heavy(words: str) -> None:
    assert not loaded_by(words) & HEAVY


def test_the_supervisor_imports_neither_opencv_nor_the_interpreter() -> None:
    loaded = loaded_by("import edgekit_device.supervisor, edgekit_device.running, edgekit_device.publish.mqtt")
    assert not loaded & {"cv2", "numpy", "ai_edge_litert", "tflite_runtime", "tensorflow"}


def test_modules_stay_readable() -> None:
    long = {
        p: n
        for p in modules("device/edgekit_device") + modules("edgekit")
        if (n := len(p.read_text().splitlines())) > 300
    }
    allowed = {
        # One table of documents in one place is easier to hold against the golden files than three.
        "telemetry.py",
        # The verbs of the Python API, one below the other.
        "pipeline.py",
        # Two state machines: the parts of each share every variable.
        "supervisor.py",
        "trial.py",
        # It runs alone on the board, so it is one file.
        "launcher.py",
        # A list of classes.
        "errors.py",
    }
    assert {p.name for p in long} <= allowed, long
    assert all(n <= 480 for p, n in long.items() if p.name != "errors.py"), long
