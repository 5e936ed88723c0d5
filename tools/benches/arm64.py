"""docs/results/arm64.md: the device package on Debian for arm64, emulated as a Cortex-A72 and a Cortex-A76.

Needs root and: apt install qemu-user-static qemu-user valgrind gcc. Each part is kept in build/arm64/results.json and
not done again; ``--fresh`` begins anew, ``--parts`` does some.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.benches.runtime import lite0_bundle
from tools.make_arm64_root import EMULATOR, inside, make, register
from tools.results import RESULTS, ROOT, heading

PLACE = ROOT / "build" / "arm64"
KEPT = PLACE / "results.json"
CPUS = {"cortex-a72": "Raspberry Pi 4", "cortex-a76": "Raspberry Pi 5"}
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
# How EdgeKit is installed: beside Debian's numpy and OpenCV as on Raspberry Pi OS, or with pip's own.
KINDS = {"apt": ("litert", True), "venv": ("litert,opencv", False)}
PARTS = ("parity", "check", "doctor", "tests", "count")
STAGES = ("preprocess", "invoke", "whole")
XNNPACK = "Created TensorFlow Lite XNNPACK delegate"
_TAGS = ("2_17", "2_26", "2_27", "2_28", "2_31", "2_34", "2_35", "2_36")
_FRAMES = (1, 21)
# Of one file of tests; emulated, and on a machine that has other things to do.
_TEST_LIMIT_S = 1500
# What the tests use besides the package, as far as it has wheels for arm64.
_FOR_TESTS = ("pytest", "hypothesis", "gpiozero", "iotcore", "jinja2")


def run(arguments: Sequence[str]) -> None:
    """Make the roots, run the parts, write the page."""
    parser = argparse.ArgumentParser(prog="run_benches.py --only arm64")
    parser.add_argument("--suites", default="bookworm,trixie")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--tests", default="all", help="files of device/tests: golden,bundle,...")
    parser.add_argument("--failed", action="store_true", help="of the tests, run files again that had a failure")
    parser.add_argument("--fresh", action="store_true")
    args = parser.parse_args(list(arguments))
    if os.geteuid() or not EMULATOR.exists():
        print("arm64: left out; it needs root, and: apt install qemu-user-static qemu-user valgrind gcc")
        return
    PLACE.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {} if args.fresh or not KEPT.exists() else json.loads(KEPT.read_text())
    if args.fresh:
        for suite in PYTHONS:
            shutil.rmtree(PLACE / suite, ignore_errors=True)
    register()
    share = _share()
    parts = args.parts.split(",")
    for suite in args.suites.split(","):
        root = PLACE / suite
        if not root.exists():
            make(suite, root)
        for kind in KINDS:
            world = World(root, kind, share)
            world.install(PYTHONS[suite])
            row = found.setdefault(f"{suite} {kind}", {})
            for cpu in CPUS:
                for part in ("parity", "check"):
                    if part in parts:
                        row[f"{part} {cpu}"] = getattr(world, part)(cpu)
            if "doctor" in parts:
                row["doctor"] = world.doctor()
            if "tests" in parts:
                done = row.setdefault("tests", {})
                for name in _wanted(args.tests, done, again=args.failed):
                    done[name] = world.test_file(name)
                    KEPT.write_text(json.dumps(found, indent=1))
                    print(f"{suite} {kind}: {name}: {json.dumps(done[name])}", flush=True)
            KEPT.write_text(json.dumps(found, indent=1))
            print(f"{suite} {kind}: {json.dumps(row)[:600]}", flush=True)
    if "count" in parts:
        found["count"] = _count(World(PLACE / "bookworm", "venv", share))
        KEPT.write_text(json.dumps(found, indent=1))
    write(found)


def _wanted(tests: str, done: dict[str, Any], *, again: bool) -> list[str]:
    """Files of tests that have no result yet, or had a failure."""
    files = sorted((ROOT / "device" / "tests").glob("test_*.py"))
    names = [path.stem.removeprefix("test_") for path in files] if tests == "all" else tests.split(",")
    return [name for name in names if name not in done or (again and _failed(done[name]))]


def _failed(file: dict[str, Any]) -> int:
    """How many tests of a file did not pass; 1 where it was not done in time."""
    return sum(file.get(word, 0) for word in ("failed", "error", "errors")) or len(file["names"])


def _share() -> Path:
    """A folder with what goes into every root: this tree's wheel, its tests, the bundle, photos and x86's scores."""
    share = PLACE / "share"
    for name in ("tests", "wheel"):
        shutil.rmtree(share / name, ignore_errors=True)
    share.mkdir(exist_ok=True)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", share / "wheel", ROOT / "device"]
    subprocess.run(pip, check=True)
    shutil.copytree(ROOT / "device" / "tests", share / "tests" / "device" / "tests")
    shutil.copy(ROOT / "pyproject.toml", share / "tests")
    # What the tests use besides: the golden documents of both sides, their stand-ins, and the guide's examples.
    for part in ("tests/contract/golden", "tests/worlds", "docs/guide/examples"):
        shutil.copytree(ROOT / part, share / "tests" / part)
    shutil.copy(Path(__file__).with_name("arm64_inside.py"), share)
    bundle, public = lite0_bundle(ROOT / "build" / "bench")
    for path in (bundle, bundle.with_name(bundle.name + ".minisig"), public):
        shutil.copy(path, share)
    _photos(bundle, public, share / "photos.npz")
    source = ROOT / "tools" / "count_instructions.c"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", share / "count.so", source], check=True)
    shutil.copy("/usr/bin/qemu-aarch64", share)
    return share


def _photos(bundle: Path, public: Path, out: Path) -> None:
    """Input tensors of the shipped photos, and what this machine's interpreter says of them."""
    import numpy as np

    from edgekit_device import vision
    from edgekit_device.bundle import open_bundle
    from edgekit_device.infer.interpreter import Engine

    opened, _ = open_bundle(bundle, [public])
    engine = Engine(opened.model())
    photos = sorted((ROOT / "calibration_data").glob("*.jpg"))
    made = [vision.to_model_input(vision.decode_image(p.read_bytes()), opened.manifest.preprocess) for p in photos]
    np.savez(out, inputs=np.concatenate(made), scores=np.stack([engine.raw(tensor) for tensor in made]).astype(int))


class World:
    """One installation in one root."""

    def __init__(self, root: Path, kind: str, share: Path) -> None:
        self.root, self.kind, self.share = root.resolve(), kind, share
        self.python = f"/opt/{kind}/bin/python"

    def call(
        self, words: Sequence[str], cpu: str = "cortex-a72", limit_s: float = 900, *, with_host: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run something in the root."""
        binds = [(self.share, "/share")]
        if with_host:
            # The emulator with plug-ins is a program of this machine and needs its libraries.
            binds += [(Path("/usr/lib/x86_64-linux-gnu"), "/usr/lib/x86_64-linux-gnu"), (Path("/lib64"), "/lib64")]
        command = inside(self.root, [str(word) for word in words], cpu, binds)
        return subprocess.run(command, capture_output=True, text=True, timeout=limit_s, errors="replace")

    def install(self, python: str) -> None:
        """A virtual environment and the wheels, of which none is built here."""
        extras, system = KINDS[self.kind]
        wheels = self.share / f"wheels-{python}-{self.kind}"
        if not wheels.exists():
            tags = [word for tag in _TAGS for word in ("--platform", f"manylinux_{tag}_aarch64")]
            pins = ["numpy<2"] if system and python == "3.11" else []
            words = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", *tags]
            words += ["--platform", "manylinux2014_aarch64", "--python-version", python, "-d", wheels]
            wheel = next((self.share / "wheel").glob("*.whl"))
            subprocess.run([*words, f"{wheel}[{extras}]", *_FOR_TESTS, *pins], check=True)
            if system:
                for own in (*wheels.glob("numpy-*"), *wheels.glob("opencv*")):
                    own.unlink()  # Debian's are to be used.
        whole = self.root / f"opt/{self.kind}/installed"
        if not whole.exists():
            shutil.rmtree(whole.parent, ignore_errors=True)  # One that was cut short.
            flags = ["--system-site-packages"] if system else []
            self._must(["python3", "-m", "venv", *flags, f"/opt/{self.kind}"])
            found = ["--no-index", "--find-links", f"/share/{wheels.name}", "--find-links", "/share/wheel"]
            self._must([self.python, "-m", "pip", "install", "-q", *found, f"edgekit-device[{extras}]"])
            self._must([self.python, "-m", "pip", "install", "-q", *found, *_FOR_TESTS])
            whole.touch()
        wheel = next((self.share / "wheel").glob("*.whl")).name
        again = ["--no-index", "--no-deps", "--force-reinstall", f"/share/wheel/{wheel}"]
        self._must([self.python, "-m", "pip", "install", "-q", *again])

    def _must(self, words: Sequence[str]) -> None:
        done = self.call(words)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr[-2000:]}")

    def parity(self, cpu: str) -> dict[str, Any]:
        """Scores beside x86's, with the kernels that a board would use."""
        words = [self.python, "/share/arm64_inside.py", "parity", "/share/lite0-1.0.0.edgekit", "/share/pub"]
        done = self.call([*words, "/share/photos.npz"], cpu)
        if done.returncode:
            return {"problem": done.stderr.strip()[-300:]}
        return {**json.loads(done.stdout.strip().splitlines()[-1]), "xnnpack": XNNPACK in done.stderr}

    def check(self, cpu: str) -> dict[str, Any]:
        """`edgekit-device check`: the golden vectors on every rung, decoded and resized by the root's own OpenCV."""
        words = ["check", "--bundle", "/share/lite0-1.0.0.edgekit", "--pubkey", "/share/pub", "--json"]
        done = self.call([self.python, "-m", "edgekit_device", *words], cpu)
        found = json.loads(done.stdout or '{"rungs": []}')
        return {rung["rung"]: rung["difference"] if rung["ok"] else rung["reason"] for rung in found["rungs"]}

    def doctor(self) -> dict[str, str]:
        """`edgekit-device doctor`, as Cortex-A72: which checks are not ok."""
        done = self.call([self.python, "-m", "edgekit_device", "doctor", "--json"])
        found = json.loads(done.stdout or '{"checks": []}')
        rows = found.get("checks") or found.get("findings") or []
        return {row["check"]: row["state"] for row in rows}

    def test_file(self, name: str) -> dict[str, Any]:
        """One file of the device package's own tests, as Cortex-A72."""
        script = f'cd /share/tests && exec {self.python} -m pytest -p no:cacheprovider --tb=short -rfEs "$@"'
        log = PLACE / "logs" / f"{self.root.name}-{self.kind}-{name}.log"
        log.parent.mkdir(exist_ok=True)
        try:
            words = ["sh", "-c", script, "sh", f"/share/tests/device/tests/test_{name}.py"]
            done = self.call(words, limit_s=_TEST_LIMIT_S)
        except subprocess.TimeoutExpired as cut:
            log.write_bytes(cut.stdout or b"")
            return {"names": [f"test_{name}.py (not done in {_TEST_LIMIT_S} s)"]}
        log.write_text(done.stdout + done.stderr)
        counts = {
            word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|errors?)", done.stdout)
        }
        names = re.findall(r"^(?:FAILED|ERROR) \S*/(.+?)(?: - .*)?$", done.stdout, re.M)
        return {**counts, "names": names or ([] if counts else [f"test_{name}.py (did not begin)"])}


def _count(world: World) -> dict[str, dict[str, float]]:
    """Millions of instructions of one frame, by stage: callgrind on this machine, qemu's plug-in as each processor."""
    bundle, public = lite0_bundle(ROOT / "build" / "bench")

    def per_frame(run_frames: Any) -> dict[str, float]:
        few, many = _FRAMES
        return {stage: (run_frames(stage, many) - run_frames(stage, few)) / (many - few) / 1e6 for stage in STAGES}

    def native(stage: str, count: int) -> int:
        tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
        words = [*tool, world.share / "arm64_inside.py", "frames", bundle, public, stage, str(count)]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
        return int(re.findall(r"Collected : (\d+)", done.stderr)[-1])

    def emulated(cpu: str) -> Any:
        def count_them(stage: str, count: int) -> int:
            emulator = ["/share/qemu-aarch64", "-cpu", cpu, "-plugin", "/share/count.so", "-d", "plugin"]
            inner = ["/share/arm64_inside.py", "frames", "/share/lite0-1.0.0.edgekit", "/share/pub", stage, str(count)]
            done = world.call([*emulator, world.python, *inner], cpu, with_host=True)
            if XNNPACK not in done.stderr:
                raise RuntimeError(f"without XNNPACK: {done.stderr[-500:]}")
            return int(re.findall(r"instructions: (\d+)", done.stderr)[-1])

        return count_them

    return {"x86-64": per_frame(native), **{cpu: per_frame(emulated(cpu)) for cpu in CPUS}}


def write(found: dict[str, Any]) -> None:
    """docs/results/arm64.md."""
    lines = [
        *heading("EdgeKit on Debian for arm64, emulated", "make bench ONLY=arm64", "edgekit-device", "ai-edge-litert"),
        "qemu-user 7.2 in a Debian root made by `tools/make_arm64_root.py`. No Raspberry Pi was touched and no time is",
        "a Pi's: what emulation can show is that the wheels install, that the kernels run and what they compute.",
        "*apt*: a virtual environment over Debian's own numpy and OpenCV, as on Raspberry Pi OS; *venv*: pip's own.",
        "",
        "| root | as | XNNPACK | same top-1 as x86 | largest difference | golden: xnnpack, builtin | versions |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        for cpu in CPUS if name != "count" else ():
            lines.append(_parity_row(name, cpu, row))
    lines += ["", "| root | doctor: not ok | device/tests as Cortex-A72 |", "|---|---|---|"]
    for name, row in found.items():
        if name != "count" and ("doctor" in row or "tests" in row):
            odd = ", ".join(f"{check} {state}" for check, state in row.get("doctor", {}).items() if state != "ok")
            lines.append(f"| {name} | {odd or 'nothing'} | {_tests(row.get('tests'))} |")
    if "count" in found:
        lines += ["", *_counts(found["count"])]
    lines += ["", *_NOTES]
    (RESULTS / "arm64.md").write_text("\n".join(lines) + "\n", "utf-8")


def _parity_row(name: str, cpu: str, row: dict[str, Any]) -> str:
    parity, check = row.get(f"parity {cpu}", {}), row.get(f"check {cpu}", {})
    board = f"{cpu} ({CPUS[cpu]})"
    if "photos" not in parity:
        return f"| {name} | {board} | | {parity.get('problem', 'not run')} | | | |"
    golden = ", ".join(f"{v:.4f}" if isinstance(v, float) else str(v) for v in check.values())
    numbers = (
        f"Python {parity['python']}, numpy {parity['numpy']}, OpenCV {parity['opencv']}, litert {parity['litert']}"
    )
    active = "active" if parity["xnnpack"] else "NOT ACTIVE"
    same = f"{parity['same_top1']} of {parity['photos']}"
    return f"| {name} | {board} | {active} | {same} | {parity['largest_quanta']} quanta | {golden} | {numbers} |"


def _tests(found: dict[str, Any] | None) -> str:
    if not found:
        return "not run"
    words = ("passed", "failed", "error", "errors", "skipped")
    sums = {word: sum(file.get(word, 0) for file in found.values()) for word in words}
    counts = ", ".join(f"{count} {word}" for word, count in sums.items() if count)
    names = [name for file in found.values() for name in file["names"]]
    # A result that an earlier form of this bench kept has the number alone.
    names += [
        f"test_{name}.py ({_failed(file)})" for name, file in found.items() if _failed(file) and not file["names"]
    ]
    left = ", ".join(f"test_{name}.py" for name in _wanted("all", found, again=False))
    failed = f"; failed: {', '.join(names)}" if names else ""
    return f"{len(found)} files: {counts}{failed}{f'; not run yet: {left}' if left else ''}"


def _counts(found: dict[str, dict[str, float]]) -> list[str]:
    lines = [
        "## Instructions of one frame",
        "",
        "Millions, one thread, 640 x 480 BGR to lite0 int8 at 224 px; the difference of two runs: starting does not",
        "count. They do not depend on the machine's mood. x86-64 under callgrind, which offers AVX2 and no more;",
        "arm64 by a plug-in of qemu. *Whole* is what `run` does for a frame that it has: preprocess, invoke, decision,",
        "counting. Two runs differ by some million instructions of Python's own, spread over a row's frames.",
        "",
        "| processor | preprocess | invoke | whole | all but preprocess and invoke |",
        "|---|---|---|---|---|",
    ]
    for cpu, stages in found.items():
        rest = stages["whole"] - stages["preprocess"] - stages["invoke"]
        cells = [f"{stages[stage]:.1f}" for stage in STAGES]
        lines.append(f"| {cpu} | {' | '.join(cells)} | {rest:.2f} ({rest / stages['whole']:.1%}) |")
    return lines


_NOTES = (
    "## What follows for the pins",
    "",
    "- ai-edge-litert's aarch64 wheels run beside Debian's own numpy and OpenCV, and with those of pip: the device",
    "  package pins neither, so that picamera2 keeps the numpy that it was built with.",
    "- The interpreter reads the processor's topology from /sys: with another architecture's in sight it crashes, with",
    "  none it switches XNNPACK off without a word. The root shows four cores, and every row tells XNNPACK's own line.",
    "- The benchmark tool in ai-edge-litert 2.3.0's wheel needs ARMv8.1's LSE atomics and dies with SIGILL as a",
    "  Cortex-A72 (Raspberry Pi 4); the interpreter in the same wheel does not. `bench` says so and goes on.",
    "- Under qemu-user a process's memory is not limited (RLIMIT_AS would end the emulator itself), so the self-test",
    "  that eats memory is not stopped there, and test_installing.py's promise about it cannot be kept.",
    "  build/arm64/logs has the words of each failure.",
)
