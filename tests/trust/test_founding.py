"""`fleet init`: whole, private, and finished by running it again wherever the power failed."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from edgekit.errors import FleetMissingError, FleetSettingsError, InsecureFleetFileError, LockedKeyError
from edgekit.trust import authority
from edgekit.trust.fleet_folder import Fleet
from edgekit.trust.fleet_settings import FleetSettings, read_settings, settings_from
from edgekit.trust.founding import init
from tests.worlds.trusted_fleet import found_fleet


def modes(folder: Path) -> dict[str, int]:
    return {str(p.relative_to(folder)): stat.S_IMODE(p.stat().st_mode) for p in folder.rglob("*") if p.is_file()}


def test_one_step_makes_everything_and_only_what_is_public_can_be_read(home: Path) -> None:
    fleet, made = init(None, FleetSettings(hosts=("192.0.2.7", "host.example.org")))
    assert made[-1] == "settings"
    assert stat.S_IMODE(fleet.folder.stat().st_mode) == 0o700
    open_ones = {name for name, mode in modes(home).items() if mode & 0o077}
    assert open_ones == {
        "fleet/fleet.toml", "fleet/ca/authority.pem", "fleet/updates/root.pub", "fleet/updates/targets.pub",
        "keys/edgekit.pub",
    }  # fmt: skip
    assert init()[1] == []


def test_certificates_are_for_one_use_each_and_name_this_host(fleet: Fleet) -> None:
    ca, broker = (x509.load_pem_x509_certificate(p.certificate) for p in (fleet.authority, fleet.broker))
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    usage = broker.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [use.dotted_string for use in usage] == ["1.3.6.1.5.5.7.3.1"]
    assert set(authority.names_of(fleet.broker.certificate)) == {"127.0.0.1", "localhost", "::1"}
    assert authority.belongs(fleet.authority.certificate, fleet.broker)


def test_the_private_halves_are_nowhere_but_in_their_own_files(home: Path, fleet: Fleet) -> None:
    holders = {
        p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file() and b"PRIVATE KEY" in p.read_bytes()
    }
    assert holders == {
        "fleet/ca/authority.key",
        "fleet/broker/broker.key",
        "fleet/updates/root.key",
        "fleet/updates/targets.key",
    }


def test_power_may_fail_at_any_step_and_the_next_run_finishes(tmp_path: Path) -> None:
    # Every fifth of some 84 steps; gate E9 takes them all.
    done = subprocess.run(
        [sys.executable, "-m", "tests.worlds.founding_cuts", str(tmp_path), "5"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["cuts"] > 14
    assert found["unfinished"] == []


def test_a_passphrase_protects_update_and_signing_keys(home: Path) -> None:
    fleet, _ = init(None, FleetSettings(hosts=("127.0.0.1",)), "a long passphrase")
    data = (fleet.folder / "updates" / "root.key").read_bytes()
    with pytest.raises(TypeError):
        serialization.load_pem_private_key(data, None)
    assert serialization.load_pem_private_key(data, b"a long passphrase")
    (fleet.folder / "updates" / "root.pub").unlink()
    with pytest.raises(LockedKeyError):
        init(None, None, "another one")
    init(None, None, "a long passphrase")
    assert (fleet.folder / "updates" / "root.pub").exists()


def test_the_broker_certificate_is_renewed_before_it_ends_and_when_hosts_change(fleet: Fleet) -> None:
    now = datetime.now(UTC)
    assert not fleet.renew_broker(now)
    before = fleet.broker.certificate
    assert fleet.renew_broker(now + timedelta(days=300))
    assert fleet.broker.certificate != before
    toml = fleet.folder / "fleet.toml"
    toml.write_text(toml.read_text().replace('["127.0.0.1"]', '["127.0.0.1", "edge.example.org"]'))
    assert fleet.renew_broker(now)
    assert "edge.example.org" in authority.names_of(fleet.broker.certificate)


def test_a_secret_that_others_may_read_is_refused(fleet: Fleet) -> None:
    fleet.account_file("administrator").chmod(0o640)
    with pytest.raises(InsecureFleetFileError, match="chmod 600"):
        fleet.account("administrator")


def test_without_a_fleet_the_remedy_is_named(home: Path) -> None:
    with pytest.raises(FleetMissingError, match="edgekit fleet init"):
        Fleet().must_exist()


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"prot": 1}, "did you mean 'port'"), ({"port": "1"}, "must be int"), ({"port": 0}, "no port"),
        ({"hosts": []}, "names no host"), ({"hosts": ["a b"]}, "neither"), ({"name": "A"}, "1 to 32"),
        ({"listen": "host"}, "no address"), ({"port": 8884}, "own port"), ({"require_certificate": 1}, "must be bool"),
        ({"hosts": ["$(reboot)"]}, "neither"), ({"hosts": ["a\nuser root"]}, "neither"),
        ({"listen": "127.0.0.1\nx"}, "no address"),
    ],
)  # fmt: skip
def test_settings_that_are_wrong_are_named(values: dict[str, object], word: str) -> None:
    with pytest.raises(FleetSettingsError, match=word):
        settings_from({"hosts": ["127.0.0.1"], **values})


def test_the_settings_file_reads_back(fleet: Fleet) -> None:
    assert read_settings(fleet.folder / "fleet.toml") == fleet.settings
    assert found_fleet(fleet.folder).settings == fleet.settings
