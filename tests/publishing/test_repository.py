"""The repository on the host: what it offers, how long it holds, and that no cut leaves boards without one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edgekit.publishing.errors import NotPublishedError, PublishedOtherwiseError, RepositoryFilesError, UpdateKeyError
from edgekit.publishing.keys import UpdateKeys
from edgekit.publishing.reading import alarm_at
from edgekit.publishing.repository import Repository
from edgekit_device.contract.errors import EdgeKitError
from edgekit_device.ota import errand
from tests.worlds.repositories import World, serving, world

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)


@pytest.fixture
def made(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path / "updates", UpdateKeys(tmp_path / "keys"))
    repository.create(NOW)
    return repository


def days(repository: Repository) -> dict[str, int]:
    return {role: round((end - NOW).total_seconds() / 86_400) for role, end in repository.expiries().items()}


def update(made: World, root: Path, bundle_id: str) -> None:
    errand.enter_bundle(made.order(root, bundle_id), lambda words: None, lambda bundle, data: None)


def test_root_holds_ten_years_targets_two_and_what_is_signed_online_a_week(made: Repository) -> None:
    assert days(made) == {"root": 3652, "targets": 730, "snapshot": 7, "timestamp": 7}


def test_the_same_bundle_again_changes_nothing_and_other_bytes_are_refused(made: Repository, tmp_path: Path) -> None:
    file = tmp_path / "toy.edgekit"
    file.write_bytes(b"one")
    assert [offer.path for offer in made.publish({"bundles/toy.edgekit": file}, now=NOW)] == ["bundles/toy.edgekit"]
    before = (made.metadata / "timestamp.json").read_bytes()
    assert made.publish({"bundles/toy.edgekit": file}, now=NOW) == []
    assert (made.metadata / "timestamp.json").read_bytes() == before
    file.write_bytes(b"two")
    with pytest.raises(PublishedOtherwiseError, match="its own version"):
        made.publish({"bundles/toy.edgekit": file}, now=NOW)
    with pytest.raises(NotPublishedError, match="is not published"):
        made.withdraw(["bundles/other.edgekit"])


def test_what_is_signed_online_is_signed_again_each_day_and_not_more_often(made: Repository) -> None:
    assert not made.resign(NOW + timedelta(hours=23))
    assert made.resign(NOW + timedelta(hours=25))
    assert made.expiries()["timestamp"] == NOW + timedelta(days=7, hours=25)
    assert made.resign(NOW + timedelta(days=900))
    assert made.expiries()["targets"] == NOW + timedelta(days=730)


def test_a_machine_with_the_online_key_alone_shows_what_was_signed_elsewhere(made: Repository, tmp_path: Path) -> None:
    """The publisher's machine has the offline keys, the one that boards reach has the online key and copied files."""
    online = UpdateKeys(tmp_path / "nothing", online=tmp_path / "keys")
    publisher = Repository(made.folder, UpdateKeys(tmp_path / "keys", online=tmp_path / "nothing"))
    file = tmp_path / "toy.edgekit"
    file.write_bytes(b"one")
    publisher.publish({"bundles/toy.edgekit": file}, now=NOW)
    shown = made.shown()
    assert shown is not None
    assert "bundles/toy.edgekit" not in shown[2].signed.targets
    host = Repository(made.folder, online)
    assert host.resign(NOW)
    shown = host.shown()
    assert shown is not None
    assert "bundles/toy.edgekit" in shown[2].signed.targets
    with pytest.raises(UpdateKeyError, match="bring the key back"):
        host.withdraw(["bundles/toy.edgekit"])


def test_targets_that_a_stranger_signed_are_not_shown(made: Repository, tmp_path: Path) -> None:
    stranger = Repository(tmp_path / "theirs", UpdateKeys(tmp_path / "stranger"))
    stranger.create(NOW)
    (made.metadata / "2.targets.json").write_bytes((stranger.metadata / "1.targets.json").read_bytes())
    with pytest.raises(RepositoryFilesError, match="not signed by the key of targets"):
        made.resign(NOW, force=True)


def test_keys_are_private_and_a_passphrase_locks_the_offline_ones(tmp_path: Path) -> None:
    keys = UpdateKeys(tmp_path / "keys", "correct horse")
    Repository(tmp_path / "updates", keys).create(NOW)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").glob("*.key")} == {0o600}
    with pytest.raises(UpdateKeyError, match="is locked"):
        UpdateKeys(tmp_path / "keys").signer("root")
    with pytest.raises(UpdateKeyError, match="not its own"):
        UpdateKeys(tmp_path / "keys", "wrong").signer("targets")
    UpdateKeys(tmp_path / "keys").signer("online")
    (tmp_path / "keys/online.key").chmod(0o644)
    with pytest.raises(UpdateKeyError, match="chmod 600"):
        keys.signer("online")


def test_the_alarm_comes_ninety_days_before_the_end_of_what_lives_for_years(made: Repository) -> None:
    ends = made.expiries()
    assert ends["root"] - alarm_at(ends["root"], "root") == timedelta(days=90)
    assert ends["targets"] - alarm_at(ends["targets"], "targets") == timedelta(days=90)
    assert ends["timestamp"] - alarm_at(ends["timestamp"], "timestamp") == timedelta(days=3.5)


def test_a_board_follows_twenty_roots_from_the_first(tmp_path: Path) -> None:
    with world(tmp_path) as made:
        root = made.board()
        for _ in range(19):
            made.repository.rotate("root")
        made.publish("1.1.0")
        update(made, root, "toy-1.1.0")
        assert serving(root) == "toy-1.1.0"
        assert made.repository.root().signed.version == 20


@pytest.mark.parametrize("name", ["online", "targets", "root"])
def test_after_a_key_was_replaced_boards_follow_and_the_old_one_signs_nothing(name: str, tmp_path: Path) -> None:
    with world(tmp_path) as made:
        root = made.board()
        made.publish("1.1.0")
        update(made, root, "toy-1.1.0")
        before = made.repository.keys.signer(name).public_key.keyid
        made.repository.rotate(name)
        assert made.repository.keys.signer(name).public_key.keyid != before
        assert before not in str(made.repository.root().signed.roles)
        made.publish("1.2.0")
        update(made, root, "toy-1.2.0")
        assert serving(root) == "toy-1.2.0"


@pytest.mark.parametrize("name", ["online", "targets", "root"])
def test_a_rotation_that_was_cut_after_its_key_is_finished_by_the_next(name: str, tmp_path: Path) -> None:
    with world(tmp_path) as made:
        root = made.board()
        made.repository.keys.make(name)
        made.repository.rotate(name)
        assert made.repository.root().signed.version == 2
        made.publish("1.1.0")
        update(made, root, "toy-1.1.0")
        assert serving(root) == "toy-1.1.0"


def test_a_stolen_online_key_installs_nothing(tmp_path: Path) -> None:
    """The thief signs whatever snapshot and timestamp he likes; what they name must be signed by others."""
    from tests.worlds.attacks import THEFT, cases, strike

    stolen = [case for case in cases() if case.attack == THEFT and "online" in case.name]
    assert len(stolen) == 4
    for number, case in enumerate(stolen):
        outcome = strike(case, tmp_path / str(number))
        assert (outcome.error, outcome.serving) == ("ForgedMetadataError", "toy-1.0.0"), case.id


def test_a_cut_at_any_write_of_a_publication_leaves_boards_the_old_or_the_new(tmp_path: Path, monkeypatch) -> None:
    from edgekit.publishing import repository as module

    real, cuts = module.write_atomically, 0

    class PowerCutError(Exception):
        pass

    with world(tmp_path) as made:
        root = made.board()
        for cut in range(20):
            left = cut

            def write(path: Path, data: bytes, **words: int) -> None:
                nonlocal left
                if left == 0:
                    raise PowerCutError
                left -= 1
                real(path, data, **words)

            monkeypatch.setattr(module, "write_atomically", write)
            version = f"1.{cut + 1}.0"
            try:
                made.publish(version)
                done = True
            except PowerCutError:
                done = False
                cuts += 1
            monkeypatch.setattr(module, "write_atomically", real)
            try:
                update(made, root, f"toy-{version}")
            except EdgeKitError as error:
                assert type(error).__name__ == "UnknownReleaseError"
                assert not done
            made.publish(version)
            update(made, root, f"toy-{version}")
            assert serving(root) == f"toy-{version}"
            if done:
                break
        assert cuts == 5  # Two files, targets, snapshot, timestamp.
