"""What a user would run instead, one function each: ``python race_contenders.py NAME --model M --video V``.

Runs in whatever environment holds the contender; needs OpenCV and numpy beside it. Everybody reads the same video and
gives the model the same pixels (centre crop 0.875, INTER_AREA to 224, RGB), but for MediaPipe Tasks, which prepares
frames itself. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import cv2
import numpy as np

SIDE, SHARE = 224, 0.875
WARM_UP_S = 0.7
# The first frames of the film: what everybody saw in them is compared.
KEPT = 200
Looker = Callable[[np.ndarray], int]


def prepare(frame: np.ndarray) -> np.ndarray:
    """BGR uint8 (H, W, 3) -> int8 (1, 224, 224, 3)."""
    side = round(min(frame.shape[:2]) * SHARE)
    top, left = (frame.shape[0] - side) // 2, (frame.shape[1] - side) // 2
    view = frame[top : top + side, left : left + side]
    small = cv2.resize(view, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return (cv2.cvtColor(small, cv2.COLOR_BGR2RGB) ^ 0x80).view(np.int8)[None]


def frames(video: str) -> Iterator[np.ndarray]:
    """The film, for ever."""
    while True:
        capture = cv2.VideoCapture(video)
        while True:
            found, frame = capture.read()
            if not found:
                break
            yield frame
        capture.release()


def litert(model: str, threads: int) -> Any:
    """A LiteRT interpreter and its two tensor numbers."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_path=model, num_threads=threads)
    run.allocate_tensors()
    return run, run.get_input_details()[0]["index"], run.get_output_details()[0]["index"]


def plain(args: argparse.Namespace) -> Looker:
    """The loop of the tutorials, with all cores."""
    run, into, out = litert(args.model, args.threads)

    def look(frame: np.ndarray) -> int:
        run.set_tensor(into, prepare(frame))
        run.invoke()
        return int(run.get_tensor(out)[0].argmax())

    return look


def openvino_sync(args: argparse.Namespace) -> Looker:
    """OpenVINO's own reader of .tflite, one request at a time, latency hint (its default)."""
    import openvino

    model = openvino.Core().compile_model(args.model, "CPU")

    def look(frame: np.ndarray) -> int:
        return int(model(prepare(frame))[0][0].argmax())

    return look


def onnxruntime(args: argparse.Namespace) -> Looker:
    """ONNX Runtime on the same integers, converted by tf2onnx."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = args.threads
    session = InferenceSession(args.onnx, options)
    name = session.get_inputs()[0].name

    def look(frame: np.ndarray) -> int:
        return int(session.run(None, {name: prepare(frame)})[0][0].argmax())

    return look


def opencv_dnn(args: argparse.Namespace) -> Looker:
    """OpenCV's own network module, on the first of the two files that it reads."""
    problems = []
    # Its new engine refuses both files; the classic one takes the converted one.
    classic = {"engine": cv2.dnn.ENGINE_CLASSIC} if hasattr(cv2.dnn, "ENGINE_CLASSIC") else {}
    for reader, path in ((cv2.dnn.readNetFromTFLite, args.model), (cv2.dnn.readNetFromONNX, args.onnx)):
        try:
            net = reader(path, **classic)
            net.setInput(np.zeros((1, SIDE, SIDE, 3), np.int8))
            net.forward()
        except (cv2.error, TypeError) as error:
            problems.append(" ".join(str(error).split())[-160:])
            continue

        def look(frame: np.ndarray, net: Any = net) -> int:
            net.setInput(prepare(frame))
            return int(net.forward().reshape(-1).argmax())

        return look
    raise RuntimeError(" | ".join(problems))


def mediapipe_tasks(args: argparse.Namespace) -> Looker:
    """MediaPipe Tasks' image classifier, frame after frame."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=args.model), max_results=1)
    classifier = vision.ImageClassifier.create_from_options(options)

    def look(frame: np.ndarray) -> int:
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        found = classifier.classify(image).classifications[0].categories
        return found[0].index if found else -1

    return look


def loop(args: argparse.Namespace, look: Looker, pace_s: float = 0.0, film: list[np.ndarray] | None = None) -> Any:
    """One frame after another; with a pace as a camera would show them."""
    seen: list[int] = []
    source = cycle(film) if film else frames(args.video)
    began = due = time.perf_counter()
    processor, counted, since = time.process_time(), 0, 0.0
    for frame in source:
        seen.append(look(frame))
        now = time.perf_counter()
        if not since and now - began > WARM_UP_S:
            processor, counted, since = time.process_time(), len(seen), now
        elif since and now - since > args.seconds:
            break
        if pace_s:
            due = max(due + pace_s, now - pace_s)
            time.sleep(max(0.0, due - now))
    done = len(seen) - counted
    took = time.perf_counter() - since
    return {
        "fps": done / took,
        "cpu_ms": (time.process_time() - processor) * 1000 / done,
        "seen": seen[:KEPT],
    }


def openvino_async(args: argparse.Namespace) -> Any:
    """OpenVINO with as many requests under way as it likes, throughput hint."""
    import openvino

    model = openvino.Core().compile_model(args.model, "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
    requests = openvino.AsyncInferQueue(model)
    seen: dict[int, int] = {}

    def note(request: Any, number: int) -> None:
        seen[number] = int(request.get_output_tensor().data[0].argmax())

    requests.set_callback(note)
    began = time.perf_counter()
    processor, counted, since = time.process_time(), 0, 0.0
    for number, frame in enumerate(frames(args.video)):
        requests.start_async(prepare(frame), number)
        now = time.perf_counter()
        if not since and now - began > WARM_UP_S:
            processor, counted, since = time.process_time(), len(seen), now
        elif since and now - since > args.seconds:
            break
    done, took = len(seen) - counted, time.perf_counter() - since
    cpu = time.process_time() - processor
    requests.wait_all()
    return {"fps": done / took, "cpu_ms": cpu * 1000 / done, "seen": [seen[n] for n in range(min(KEPT, len(seen)))]}


def bare(args: argparse.Namespace) -> Any:
    """Nothing but invoke, with all cores: no frame is read, nothing is looked at."""
    run, into, _ = litert(args.model, args.threads)
    run.set_tensor(into, np.random.default_rng(0).integers(-128, 128, (1, SIDE, SIDE, 3)).astype(np.int8))
    found = loop(args, lambda frame: run.invoke() or 0, film=[np.zeros((1, 1, 3), np.uint8)])
    return {**found, "seen": None}


def parts(args: argparse.Namespace) -> Any:
    """Processor time of one frame's parts on one thread, each alone and one after another: what no loop can do without.

    Together they cost more than the sum of each alone, because each finds the caches full of the other's data.
    """
    cv2.setNumThreads(1)
    run, into, _ = litert(args.model, 1)
    # One decoding thread, because several would hide the work of one frame in another's.
    capture = cv2.VideoCapture(args.video, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    kept = []

    def read() -> None:
        found, frame = capture.read()
        if not found:
            capture.set(cv2.CAP_PROP_POS_FRAMES, 0)
            _, frame = capture.read()
        kept[:] = [frame]

    read()
    run.set_tensor(into, prepare(kept[0]))
    found = {}

    def together() -> None:
        read()
        run.set_tensor(into, prepare(kept[0]))
        run.invoke()

    each: dict[str, Callable[[], object]] = {"decode": read, "preprocess": lambda: prepare(kept[0])}
    for name, call in {**each, "invoke": run.invoke, "together": together}.items():
        for _ in range(20):
            call()
        processor, count, began = time.process_time(), 0, time.perf_counter()
        while time.perf_counter() - began < args.seconds / 4:
            call()
            count += 1
        found[name] = (time.process_time() - processor) * 1000 / count
    return found


def paced(args: argparse.Namespace) -> Any:
    """Preprocess and invoke on one thread, thirty times a second, frames in memory: what a frame costs a cool core."""
    cv2.setNumThreads(1)
    look = plain(argparse.Namespace(model=args.model, threads=1))
    film = [frame for frame, _ in zip(frames(args.video), range(60), strict=False)]
    return {**loop(args, look, 1 / 30, film), "seen": None}


def paced_video(args: argparse.Namespace) -> Any:
    """The same with the video decoded on the way."""
    look = plain(argparse.Namespace(model=args.model, threads=1))
    return {**loop(args, look, 1 / 30), "seen": None}


def latency(args: argparse.Namespace) -> Any:
    """Milliseconds of preprocess and invoke at thirty frames a second, by threads: the floor of any latency."""
    film = [frame for frame, _ in zip(frames(args.video), range(60), strict=False)]
    found = {}
    for threads in sorted({1, args.threads}):
        run, into, out = litert(args.model, threads)
        taken = []
        due = time.perf_counter()
        for number in range(int(30 * args.seconds)):
            began = time.perf_counter()
            run.set_tensor(into, prepare(film[number % len(film)]))
            run.invoke()
            run.get_tensor(out)[0].argmax()
            taken.append(time.perf_counter() - began)
            due = max(due + 1 / 30, began)
            time.sleep(max(0.0, due - time.perf_counter()))
        found[str(threads)] = float(np.median(taken[5:])) * 1000
    return {"ms": found}


LOOPS: dict[str, Callable[[argparse.Namespace], Looker]] = {
    "plain": plain,
    "openvino_sync": openvino_sync,
    "onnxruntime": onnxruntime,
    "opencv_dnn": opencv_dnn,
    "mediapipe": mediapipe_tasks,
}
WHOLE: dict[str, Callable[[argparse.Namespace], Any]] = {
    "openvino_async": openvino_async,
    "bare": bare,
    "parts": parts,
    "paced": paced,
    "paced_video": paced_video,
    "latency": latency,
}


def main() -> None:
    """Run one and print what it did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=(*LOOPS, *WHOLE))
    parser.add_argument("--model", required=True)
    parser.add_argument("--onnx", default="")
    parser.add_argument("--video", required=True)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    found = WHOLE[args.name](args) if args.name in WHOLE else loop(args, LOOPS[args.name](args))
    sys.stdout.write("\n" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
