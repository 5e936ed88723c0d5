"""What is counted, what is decided and when a worker is stuck: pure parts of the runtime."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit_device.contract.errors import UsageError
from edgekit_device.ladder import Ladder
from edgekit_device.meter import BINS, Meter, histogram_bin, quantiles_ms, uncertainty
from edgekit_device.progress import Snapshot
from edgekit_device.smoothing import Smoother, SmoothingRule
from edgekit_device.watchdog import Limits, backoff_s, stuck


def seconds(value: float) -> dict[str, float]:
    return {"preprocess": value, "invoke": value, "end_to_end": value}


def test_a_window_counts_what_was_served_and_starts_anew() -> None:
    meter = Meter()
    for index in (3, 3, 1):
        meter.captured()
        meter.served(seconds(0.010), np.eye(4, dtype=np.float32)[index], new=True)
    meter.captured(dropped=1)
    time.sleep(0.01)
    first, second = meter.take(), meter.take()
    assert first["class_counts"] == {"1": 1, "3": 2}
    assert first["frames_dropped"] == 1
    assert first["latency_ms"]["invoke"] == {"p50": 10.0, "p95": 10.0, "p99": 10.0}
    assert first["fps"] == pytest.approx(3 / first["window_s"], rel=0.05)
    assert first["capture_fps"] > first["fps"]
    assert sum(first["entropy_hist"]) == sum(first["margin_hist"]) == 3
    assert second["fps"] == 0
    assert second["latency_ms"]["invoke"]["p50"] is None


def test_a_frame_that_was_served_before_is_no_new_frame() -> None:
    meter = Meter()
    meter.served(seconds(0.001), np.array([1.0, 0.0], np.float32), new=False)
    window = meter.take()
    assert window["fps"] == 0
    assert window["inference_fps"] > 0


@given(st.lists(st.floats(0, 10), min_size=1, max_size=300))
def test_quantiles_are_latencies_that_some_frame_had(values: list[float]) -> None:
    found = quantiles_ms(values)
    ordered = [found["p50"], found["p95"], found["p99"]]
    assert ordered == sorted(x for x in ordered if x is not None)
    for share, value in zip((0.5, 0.95, 0.99), ordered, strict=True):
        assert value is not None
        assert any(math.isclose(value, v * 1000, abs_tol=1e-3) for v in values)
        assert sum(v * 1000 <= value + 1e-3 for v in values) >= share * len(values)


def test_a_sure_score_vector_has_no_entropy_and_a_flat_one_has_all() -> None:
    assert uncertainty(np.array([0, 1, 0], np.float32)) == (0.0, 1.0)
    entropy, margin = uncertainty(np.full(1000, 0.001, np.float32))
    assert entropy == pytest.approx(1.0)
    assert margin == pytest.approx(0.0)


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=20))
def test_uncertainty_stays_in_its_bounds_for_any_scores(values: list[float]) -> None:
    entropy, margin = uncertainty(np.array(values, np.float32))
    assert 0 <= entropy <= 1
    assert 0 <= margin <= 1
    assert 0 <= histogram_bin(entropy) < BINS


def test_one_lucky_frame_is_not_a_claim() -> None:
    smoother = Smoother(SmoothingRule())
    assert not smoother.add(5, 0.99).accepted
    assert not smoother.add(5, 0.99).accepted
    assert smoother.add(5, 0.99).accepted


def test_low_scores_never_become_a_claim() -> None:
    smoother = Smoother(SmoothingRule())
    assert not any(smoother.add(5, 0.79).accepted for _ in range(50))


def test_a_claim_falls_when_the_consensus_is_gone() -> None:
    smoother = Smoother(SmoothingRule(history=5))
    for _ in range(5):
        smoother.add(1, 0.9)
    decisions = [smoother.add(index, 0.9) for index in (2, 3, 4)]
    assert [d.accepted for d in decisions] == [True, True, False]


STILL = Snapshot(0, 0, 0, 10, 10, 1)


def test_a_long_inference_is_a_hang_and_a_long_read_a_stalled_camera() -> None:
    limits = Limits()
    hang = STILL._replace(infer_since_s=100.0)
    stall = STILL._replace(read_since_s=100.0)
    assert stuck(hang, 105.0, live=True, pace_s=0.03, limits=limits) is None
    assert (stuck(hang, 107.0, live=True, pace_s=0.03, limits=limits) or "").startswith("inference_hang")
    assert (stuck(stall, 107.0, live=True, pace_s=0.03, limits=limits) or "").startswith("camera_stalled")
    assert stuck(stall, 1e6, live=False, pace_s=0.03, limits=limits) is None, "a file may wait for inference"
    assert stuck(stall, 107.0, live=True, pace_s=10.0, limits=limits) is None, "a slow camera is not a stalled one"


def test_backoff_doubles_up_to_a_rest_that_still_tries() -> None:
    limits = Limits()
    waits = [backoff_s(n, limits) for n in range(12)]
    assert waits[0] == 0
    assert waits == sorted(waits)
    assert waits[-1] == limits.backoff_cap_s


def test_the_ladder_says_why_it_stands_lower() -> None:
    ladder = Ladder.for_choice("auto")
    assert (ladder.current, ladder.reason) == ("xnnpack", None)
    assert ladder.fail("xnnpack", "golden mismatch") == "builtin"
    assert ladder.reason == "xnnpack: golden mismatch"
    assert ladder.fail("builtin", "crash") is None
    ladder.retry()
    assert ladder.current == "xnnpack"


def test_an_explicit_delegate_never_falls_back() -> None:
    assert Ladder.for_choice("edgetpu", ("cpu", "edgetpu")).fail("edgetpu", "no device") is None
    with pytest.raises(UsageError, match="choose one of"):
        Ladder.for_choice("gpu")
