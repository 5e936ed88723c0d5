"""docs/results/speed.md: EdgeKit and what a user would run instead, on one video, in interleaved rounds."""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tools.benches.bars import Bar, bars
from tools.benches.runtime import lite0_bundle
from tools.results import RESULTS, ROOT, heading

PLACE = ROOT / "build" / "race"
CONTENDERS = Path(__file__).with_name("race_contenders.py")
VENV = ROOT / ".venv-race"
# The newest that pip finds; the page says which they were.
PACKAGES = ("ai-edge-litert", "numpy", "opencv-python-headless", "openvino", "onnxruntime")
FPS, WIDTH, HEIGHT, FRAMES = 30, 768, 576, 300
PHOTOS = ("cat-tabby", "coffee", "tiger", "rocket", "citrus", "astronaut", "bee", "dogs", "dahlia", "raccoon")
NAMES = {
    "edgekit": "EdgeKit",
    "plain": "plain LiteRT loop",
    "bare": "bare invoke, no frames",
    "openvino_sync": "OpenVINO, synchronous",
    "openvino_async": "OpenVINO, AsyncInferQueue",
    "onnxruntime": "ONNX Runtime",
    "opencv_dnn": "OpenCV dnn",
    "mediapipe": "MediaPipe Tasks",
}
RAN = {
    "edgekit": "lite0.tflite, `edgekit-device run --source video:` (decodes, checks, reports)",
    "plain": "lite0.tflite, one interpreter with all cores",
    "bare": "lite0.tflite, one interpreter with all cores; nothing decoded or prepared",
    "openvino_sync": "lite0.tflite by OpenVINO's own reader",
    "openvino_async": "the same, THROUGHPUT hint",
    "onnxruntime": "lite0.onnx: the same integers by tf2onnx (QDQ)",
    "opencv_dnn": "lite0.onnx, classic engine (its TFLite reader refuses int8)",
    "mediapipe": "lite0-uint8.tflite: the same weights with a uint8 input, which it asks for",
}
_TICKS = os.sysconf("SC_CLK_TCK")


def run(arguments: Sequence[str]) -> None:
    """Make what is missing, run the rounds, write the page and the picture."""
    parser = argparse.ArgumentParser(prog="run_benches.py --only speed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each contender in each round")
    args = parser.parse_args(list(arguments))
    files = prepare()
    load = os.getloadavg()[0]
    rounds = []
    for number in range(args.rounds):
        # Each round in another order, so that no contender always follows the same one.
        order = [*NAMES, "parts", "paced", "paced_video", "edgekit_paced", "latency", "edgekit_latency", "start"]
        random.Random(number).shuffle(order)
        found = {}
        for name in order:
            found[name] = one(name, files, args.seconds)
            print(f"round {number + 1}, {name}: {_short(found[name])}", flush=True)
        rounds.append(found)
    PLACE.joinpath("rounds.json").write_text(json.dumps(rounds))
    write(rounds, args, load)


def prepare() -> dict[str, Path]:
    """The video, the model in the forms that its readers take, and the contenders' environment."""
    PLACE.mkdir(parents=True, exist_ok=True)
    bundle, public = lite0_bundle(ROOT / "build" / "bench")
    files = {"bundle": bundle, "public": public, "model": bundle.with_name("lite0.tflite")}
    files["video"] = film(PLACE / "race.avi")
    files["uint8"] = PLACE / "lite0-uint8.tflite"
    if not files["uint8"].exists():
        import edgekit

        edgekit.convert("efficientnet-lite0", out=files["uint8"], io="uint8")
    files["onnx"] = PLACE / "lite0.onnx"
    if not files["onnx"].exists():
        _to_onnx(files["model"], files["onnx"])
    if not (VENV / "stamp").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin" / "python", "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        (VENV / "stamp").touch()
    return files


def _to_onnx(model: Path, out: Path) -> None:
    """With tf2onnx beside this environment's TensorFlow, in a folder of its own: it is nobody's dependency."""
    tools = PLACE / "tf2onnx"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", tools, "--no-deps", "tf2onnx", "onnx"]
    subprocess.run(pip, check=True)
    subprocess.run(
        [sys.executable, "-m", "tf2onnx.convert", "--tflite", model, "--output", out, "--opset", "17"],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(tools)},
    )


def film(path: Path) -> Path:
    """The shipped photos in slow motion, as `edgekit demo` shows them: MJPG, 768 x 576."""
    import cv2
    import numpy as np

    if path.exists():
        return path
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), FPS, (WIDTH, HEIGHT))
    step = FRAMES // len(PHOTOS)
    for number in range(FRAMES):
        at = number % step
        if at == 0:
            photo = cv2.imread(str(ROOT / "calibration_data" / f"{PHOTOS[number // step]}.jpg"))
            photo = cv2.resize(photo, (WIDTH + step * 3, HEIGHT + step * 3), interpolation=cv2.INTER_AREA)
        writer.write(np.ascontiguousarray(photo[3 * at : 3 * at + HEIGHT, 3 * at : 3 * at + WIDTH]))
    writer.release()
    return path


def one(name: str, files: dict[str, Path], seconds: float) -> dict[str, Any]:
    """One contender in one round."""
    cores = len(os.sched_getaffinity(0))
    if name == "edgekit":
        return _edgekit(files, seconds, "--loop")
    if name == "edgekit_paced":
        return _edgekit(files, seconds, "--loop", "--realtime")
    if name == "edgekit_latency":
        return _edgekit_latency(files, seconds)
    if name == "start":
        return {"first_s": _first_result(files)}
    python = VENV / "bin" / "python"
    if name == "mediapipe":
        python = Path(os.environ.get("EDGEKIT_MEDIAPIPE_PYTHON", ROOT / ".venv-mediapipe" / "bin" / "python"))
        if not python.exists():
            return {"problem": "not installed: make oracle"}
    words = [python, CONTENDERS, name, "--video", files["video"], "--onnx", files["onnx"]]
    words += ["--model", files["uint8" if name == "mediapipe" else "model"]]
    words += ["--seconds", seconds, "--threads", cores]
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        return {"problem": (done.stderr.strip().splitlines() or ["?"])[-1][-160:]}
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def _start(files: dict[str, Path], *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "edgekit_device", "run", "--bundle", files["bundle"], "--pubkey", files["public"]]
    command += ["--source", f"video:{files['video']}", "--json", *words]
    environment = {**os.environ, "XDG_STATE_HOME": str(PLACE / "state")}
    return subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )


def _cpu_s(pid: int) -> tuple[float, float]:
    """Processor seconds of a supervisor, and of its worker."""
    found = []
    for one_pid in (pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())):
        fields = Path(f"/proc/{one_pid}/stat").read_text().rpartition(")")[2].split()
        found.append((int(fields[11]) + int(fields[12])) / _TICKS)
    return found[0], sum(found[1:])


def _edgekit(files: dict[str, Path], seconds: float, *words: str) -> dict[str, Any]:
    """Both processes, from the third Reading on: a board runs for months."""
    process = _start(files, *words, "--interval", "1")
    assert process.stdout is not None
    readings: list[dict[str, Any]] = []
    marks: list[tuple[float, float]] = []
    for line in process.stdout:
        readings.append(json.loads(line))
        marks.append(_cpu_s(process.pid))
        if len(readings) >= 3 + seconds:
            break
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    process.wait()
    counted = readings[3:]
    frames = sum(sum(reading["class_counts"].values()) for reading in counted)
    took = sum(reading["window_s"] for reading in counted)
    supervisor_s, worker_s = (marks[-1][which] - marks[2][which] for which in (0, 1))
    return {
        "fps": frames / took,
        "cpu_ms": (supervisor_s + worker_s) * 1000 / frames,
        "supervisor_ms": supervisor_s * 1000 / frames,
        "dropped": sum(reading["frames_dropped"] for reading in counted),
        "threads": counted[-1]["threads"],
        "idle": 1 - (supervisor_s + worker_s) / took / len(os.sched_getaffinity(0)),
        "rss_mb": max(reading["rss_bytes"] for reading in counted) / 1e6,
        "parts_ms": {step: value["p50"] for step, value in counted[-1]["latency_ms"].items()},
        "seen": None,
    }


def _edgekit_latency(files: dict[str, Path], seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "edgekit_device", "bench", "--bundle", files["bundle"], "--pubkey"]
    command += [files["public"], "--source", f"video:{files['video']}", "--realtime", "--delegate", "xnnpack"]
    found = {}
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        words = [*command, "--threads", threads, "--seconds", seconds, "--no-litert", "--json"]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
        found[str(threads)] = json.loads(done.stdout)["rows"][0]["capture_to_result_ms"]["p50"]
    return {"ms": found}


def _first_result(files: dict[str, Path]) -> float:
    """Seconds from the command to the first decision, with the choice of an earlier run cached."""
    began = time.monotonic()
    process = _start(files, "--loop", "--results", "stdout")
    assert process.stdout is not None
    for line in process.stdout:
        if "decision" in line:
            break
    took = time.monotonic() - began
    process.send_signal(signal.SIGTERM)
    process.stdout.read()
    process.wait()
    return took


def _short(found: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.2f}" if isinstance(value, float) else f"{key} {value}"
        for key, value in found.items()
        if key not in ("seen", "parts_ms")
    )


# -- the page ------------------------------------------------------------------------------------------------


def figures(rounds: Sequence[dict[str, Any]], name: str, key: str) -> list[float]:
    """One figure of every round that has it."""
    return [float(found[name][key]) for found in rounds if key in found[name]]


def ratios(rounds: Sequence[dict[str, Any]], over: str, under: str, key: str = "fps") -> list[float]:
    """Round by round, because what disturbs a round disturbs both."""
    return [found[over][key] / found[under][key] for found in rounds if key in found[over] and key in found[under]]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """``1.02 (0.98 to 1.05)``."""
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def allowed(found: dict[str, Any]) -> float:
    """Frames per second that decode, preprocess and invoke, one after another, allow on all cores of this machine."""
    return len(os.sched_getaffinity(0)) * 1000 / found["parts"]["together"]


def write(rounds: Sequence[dict[str, Any]], args: argparse.Namespace, load: float) -> None:
    """docs/results/speed.md and docs/img/speed.svg."""
    shown = [name for name in NAMES if figures(rounds, name, "fps")]
    shown.sort(key=lambda name: -statistics.median(figures(rounds, name, "fps")))
    picture = [
        Bar(NAMES[n], statistics.median(f), min(f), max(f), n == "edgekit")
        for n in shown
        if (f := figures(rounds, n, "fps"))
    ]
    image = ROOT / "docs" / "img" / "speed.svg"
    image.write_text(bars("EfficientNet-Lite0 int8 from a 768 x 576 video", "frames per second", picture), "utf-8")
    lines = [
        *heading("Speed: EdgeKit and what one would run instead", "make bench ONLY=speed", "ai-edge-litert", "numpy"),
        f"One run, {len(rounds)} rounds of {args.seconds:g} s each, every round in another order; figures are medians",
        f"(least to most), ratios are taken round by round. One video: the shipped photos in motion, {WIDTH} x",
        f"{HEIGHT}, MJPG, {FRAMES} frames, looped. Contenders' environment: {_installed()}.",
        *_mood(load),
        "",
        "![frames per second](../img/speed.svg)",
        "",
        "| contender | FPS | CPU ms a frame | EdgeKit / it | same top-1 | what it ran |",
        "|---|---|---|---|---|---|",
    ]
    for name in shown:
        cells = [NAMES[name], spread(figures(rounds, name, "fps"), 1), spread(figures(rounds, name, "cpu_ms"))]
        cells += [spread(ratios(rounds, "edgekit", name)), _same(rounds, name), RAN[name]]
        lines.append(f"| {' | '.join(cells)} |")
    for name in NAMES:
        if name not in shown:
            lines.append(f"| {NAMES[name]} | did not run: {rounds[0][name].get('problem', '?')} | | | | {RAN[name]} |")
    lines += ["", *_goals(rounds), "", *_profile(rounds), "", *_ABSENT]
    (RESULTS / "speed.md").write_text("\n".join(lines) + "\n", "utf-8")


def _mood(load: float) -> list[str]:
    """What the machine did before the first round: figures of a busy one say nothing about speed."""
    cores = len(os.sched_getaffinity(0))
    if load < 0.3 * cores:
        return [f"Load average before the first round: {load:.2f} on {cores} cores."]
    return [
        "",
        f"**The machine was busy (load average {load:.1f} on {cores} cores): no verdict on speed here counts.**",
    ]


def _installed() -> str:
    code = "import sys, importlib.metadata as m; print(*(f'{p} {m.version(p)}' for p in sys.argv[1:]), sep=', ')"
    done = subprocess.run([VENV / "bin" / "python", "-c", code, *PACKAGES], capture_output=True, text=True)
    return done.stdout.strip()


def _same(rounds: Sequence[dict[str, Any]], name: str) -> str:
    """Share of the first frames in which it sees what the plain loop sees."""
    mine, plain = rounds[0][name].get("seen"), rounds[0]["plain"].get("seen")
    if not mine or not plain:
        return "-"
    pairs = list(zip(mine, plain, strict=False))
    return f"{sum(a == b for a, b in pairs) / len(pairs):.0%}"


def _goals(rounds: Sequence[dict[str, Any]]) -> list[str]:
    floor = [found["edgekit"]["fps"] / allowed(found) for found in rounds]
    late = [min(f["edgekit_latency"]["ms"].values()) / min(f["latency"]["ms"].values()) for f in rounds]
    cost = ratios(rounds, "edgekit_paced", "paced", "cpu_ms")
    decoded = ratios(rounds, "edgekit_paced", "paced_video", "cpu_ms")
    rows = [
        ("FPS from a file / what decode + preprocess + invoke allow on all cores", floor, ">= 0.97", 0.97, True),
        ("FPS / OpenVINO's synchronous loop", ratios(rounds, "edgekit", "openvino_sync"), ">= 1.0", 1.0, True),
        ("FPS / MediaPipe Tasks", ratios(rounds, "edgekit", "mediapipe"), ">= 2", 2.0, True),
        ("FPS / OpenVINO's AsyncInferQueue (reported)", ratios(rounds, "edgekit", "openvino_async"), "", 0.0, True),
        ("paced at 30 FPS: CPU a frame / (preprocess + invoke, paced, one thread)", cost, "<= 1.05", 1.05, False),
        ("the same against a paced loop that decodes the video as well", decoded, "", 0.0, True),
        ("paced at 30 FPS: frames dropped", figures(rounds, "edgekit_paced", "dropped"), "0", 0.0, False),
        ("live: capture to result p50 / (preprocess + invoke)", late, "<= 1.15", 1.15, False),
        ("first result after start, choice cached, s", figures(rounds, "start", "first_s"), "<= 1.5", 1.5, False),
    ]
    lines = ["| goal | measured | wanted | |", "|---|---|---|---|"]
    for what, values, wanted, limit, least in rows:
        met = ""
        if wanted and values:
            middle = statistics.median(values)
            met = "met" if (middle >= limit if least else middle <= limit) else "missed"
        lines.append(f"| {what} | {spread(values)} | {wanted} | {met} |")
    return lines


def _profile(rounds: Sequence[dict[str, Any]]) -> list[str]:
    """Where a frame's time goes, which is why a goal is met or not."""
    video = statistics.median(figures(rounds, "paced_video", "cpu_ms"))
    parts = {name: statistics.median(found["parts"][name] for found in rounds) for name in rounds[0]["parts"]}
    whole = statistics.median(figures(rounds, "edgekit", "cpu_ms"))
    idle = statistics.median(figures(rounds, "edgekit", "idle"))
    paced = statistics.median(figures(rounds, "edgekit_paced", "cpu_ms"))
    floor = statistics.median(figures(rounds, "paced", "cpu_ms"))
    return [
        "## Where a frame's time goes",
        "",
        "| part, processor ms a frame | from a file | paced at 30 FPS |",
        "|---|---|---|",
        f"| decode, alone | {parts['decode']:.2f} | |",
        f"| preprocess, alone | {parts['preprocess']:.2f} | |",
        f"| invoke, alone | {parts['invoke']:.2f} | |",
        f"| the three one after another in one loop | {parts['together']:.2f} | {video:.2f} |",
        f"| preprocess + invoke alone, frames in memory | | {floor:.2f} |",
        f"| EdgeKit, both processes, everything | {whole:.2f} | {paced:.2f} |",
        f"| of this the supervisor | {statistics.median(figures(rounds, 'edgekit', 'supervisor_ms')):.2f} | "
        f"{statistics.median(figures(rounds, 'edgekit_paced', 'supervisor_ms')):.2f} |",
        "",
        f"From a file the cores were idle for {idle:.1%} of the time. EdgeKit used "
        f"{rounds[-1]['edgekit']['threads']} threads from a file and {rounds[-1]['edgekit_paced']['threads']} paced; "
        f"resident {statistics.median(figures(rounds, 'edgekit', 'rss_mb')):.0f} and "
        f"{statistics.median(figures(rounds, 'edgekit_paced', 'rss_mb')):.0f} MB, both processes.",
    ]


_ABSENT = (
    "Not raced: ncnn installs and reads neither file (its int8 is another quantisation, made by its own tools from",
    "float weights); ExecuTorch takes a program exported from PyTorch, quantised there. Either would be another model.",
    "No figure here was taken on a Raspberry Pi: x86 kernels differ, and so will the order.",
)
