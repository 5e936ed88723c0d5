"""How a file comes: under a least rate from its first header to its last byte, and under the hash that names it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit_device.ota import errand
from edgekit_device.ota.errors import DamagedMetadataError, SlowRetrievalError
from edgekit_device.ota.parts import Parts, Wanted
from edgekit_device.ota.transport import Limits, Transport
from tests.worlds.attacks import WANTED, name_by
from tests.worlds.repositories import Server, Trick, serving, world

# By its size this file may take an hour; what is looked at here must not.
DATA = random.Random(4).randbytes(4_000_000)
QUICK = Limits(window_s=1.0, answer_s=3.0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "f").write_bytes(DATA)
    with Server(tmp_path).running() as running:
        yield running


def fetch(server: Server, *tricks: Trick) -> Path:
    server.tricks[:] = tricks
    wanted = Wanted(f"{server.url}f", len(DATA), hashlib.sha256(DATA).hexdigest())
    return Parts(server.folder / "parts").fetch(wanted, Transport(QUICK))


def test_a_large_file_that_drips_is_given_up_after_a_window_and_not_asked_for_again_and_again(server: Server) -> None:
    # Whoever asks again gets it whole the fourth time.
    with pytest.raises(SlowRetrievalError, match="bytes a second"):
        fetch(server, Trick("f", drip_s=0.2, times=3))
    assert len(server.asked) == 1


def test_ending_each_connection_in_time_buys_a_drip_no_more_time(server: Server) -> None:
    with pytest.raises(SlowRetrievalError, match="bytes a second"):
        fetch(server, Trick("f", drip_s=0.6, cut_at=1, times=40))


@pytest.mark.parametrize("a_byte_s", [0.3, 0.03], ids=["cut in the first line", "cut in the middle"])
def test_headers_that_drip_are_given_up_long_before_a_large_file_is_late(a_byte_s: float, server: Server) -> None:
    # Whoever waits half a minute has them all.
    with pytest.raises(SlowRetrievalError, match="deadline"):
        fetch(server, Trick("f", headers_drip_s=a_byte_s, padding=int(9 / a_byte_s), times=2))
    assert len(server.asked) == 1


def test_a_link_that_is_cut_and_quick_between_its_cuts_brings_the_file(server: Server) -> None:
    assert fetch(server, Trick("f", cut_at=500_000, times=5)).read_bytes() == DATA


def test_a_bundle_that_is_named_by_sha512_alone_is_fetched_and_entered(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        root, bundle = made.board(), made.publish("1.1.0").read_bytes()
        digest = hashlib.sha512(bundle).hexdigest()
        place = made.base / "updates" / "targets" / "bundles"
        (place / f"{digest}.{WANTED}.edgekit").write_bytes(bundle)
        name_by(made, {"sha512": digest})
        errand.enter_bundle(made.order(root, WANTED), lambda words: None, lambda bundle, data: None)
        assert serving(root) == WANTED


@pytest.mark.parametrize("digest", ["../../../../tmp/out", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_a_hash_becomes_a_file_name_so_it_must_be_a_hash_whoever_signed_it(digest: str, tmp_path: Path) -> None:
    with world(tmp_path) as made:
        root = made.board()
        made.publish("1.1.0")
        name_by(made, {"sha256": digest})
        with pytest.raises(DamagedMetadataError):
            errand.enter_bundle(made.order(root, WANTED), lambda words: None, lambda bundle, data: None)
        assert serving(root) == "toy-1.0.0"
