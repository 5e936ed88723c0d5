"""`edgekit sdcard`: files that bring a fresh card up running and enrolled. Systems are real where they can be had here:
cloud-init's own schema, a shell, a board in a chroot that runs the first boot's script."""

from __future__ import annotations

import importlib.metadata
import json
import os
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgekit.card_making import make_card
from edgekit.cli import main
from edgekit.enlisting import FleetMembership
from edgekit.errors import UsageError
from edgekit.flashing.errors import WheelsError
from edgekit.flashing.facts import PythonFacts, System
from edgekit.flashing.sdcard import Card, card_files, write_card
from edgekit.flashing.wheelhouse import Wheel, read_wheel
from edgekit.publishing.keys import UpdateKeys
from edgekit.publishing.repository import Repository
from edgekit_device.bundle import open_bundle
from edgekit_device.settings import read_device_toml
from tests.conftest import absent
from tests.flashing.test_wheels import wheel
from tests.worlds.bundles import Signer
from tests.worlds.ssh_boards import SshWorld, require_boards, ssh_board
from tests.worlds.trial_board import Recipe, bundle_of
from tests.worlds.trusted_fleet import OBSERVER, World, config_home, eventually, found_fleet

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJvYXJk me@laptop"
PIP = "pip-26.3-py3-none-any.whl"
# What boards of both systems get, as names only: these cards are looked at, not booted.
NAMES = (
    "ai_edge_litert-2.3.0-{0}-{0}-manylinux_2_27_aarch64.whl",
    "numpy-2.4.0-{0}-{0}-manylinux_2_27_aarch64.whl",
    "opencv_python_headless-4.11.0-cp37-abi3-manylinux_2_17_aarch64.whl",
    "opencv_python_headless-5.0.0-cp37-abi3-manylinux_2_28_aarch64.whl",
    "paho_mqtt-2.2.0-py3-none-any.whl",
    "cryptography-50.0.2-cp311-abi3-manylinux_2_34_aarch64.whl",
    "py_minisign-0.21.1-py3-none-any.whl",
    "tuf-7.0.1-py3-none-any.whl",
    PIP,
)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in NAMES:
        for tag in ("cp311", "cp313"):
            wheel(folder, name.format(tag))
    return folder


@pytest.fixture
def made(tmp_path: Path) -> tuple[Path, Signer]:
    signer = Signer.make(tmp_path / "keys")
    path = tmp_path / "toy-1.0.0.edgekit"
    path.write_bytes(bundle_of(Recipe(), "1.0.0"))
    signer.sign(path)
    return path, signer


@pytest.fixture
def ssh_key(tmp_path: Path) -> Path:
    path = tmp_path / "id.pub"
    path.write_text(KEY + "\n")
    return path


def words(made: tuple[Path, Signer], house: Path, ssh_key: Path, system: str, out: Path, *more: str) -> list[str]:
    bundle, signer = made
    return [
        "sdcard", str(bundle), "--os", system, "-o", str(out), "--id", "porch", "--ssh-key", str(ssh_key),
        "--wheels", str(house), "--pubkey", str(signer.public), *more,
    ]  # fmt: skip


@pytest.mark.parametrize("system", ["trixie", "bookworm"])
def test_a_card_holds_all_that_the_board_needs_without_a_network(
    made: tuple[Path, Signer],
    house: Path,
    ssh_key: Path,
    tmp_path: Path,
    system: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "card"
    assert main(words(made, house, ssh_key, system, out, "--no-enroll")) == 0
    assert "no fleet" in capsys.readouterr().out
    payload = out / "edgekit"
    for kind, numpy in (("pip", True), ("own", False)):
        lines = (payload / f"requirements-{kind}.txt").read_text().splitlines()
        names = [line.split(" @ ")[0] for line in lines]
        assert ("numpy" in names) == numpy
        assert "edgekit-device" in names and all("--hash=sha256:" in line for line in lines)
        for line in lines:
            assert (payload / line.split("@HERE@/")[1].split(" ")[0]).is_file()
    own = (payload / "requirements-own.txt").read_text()
    assert ("opencv_python_headless-4.11" in own) == (system == "bookworm")
    assert read_device_toml(payload / "device.toml") == {"site": "home", "id": "porch"}
    assert not (payload / "token").exists()
    for script in (payload / "begin.sh", payload / "first-boot.sh"):
        assert "@" not in script.read_text().replace("@HERE@", "").replace('"$@"', "")
        assert subprocess.run(["sh", "-n", script], check=False).returncode == 0


def test_cloud_init_accepts_what_a_trixie_card_says(
    made: tuple[Path, Signer], house: Path, ssh_key: Path, tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    tool = require_tool("cloud-init", "apt install cloud-init")
    phrase = tmp_path / "phrase"
    phrase.write_text('correct "horse": #battery\n')
    more = ("--no-enroll", "--wifi", 'Haus "1": #2', "--wifi-passphrase-file", str(phrase), "--wifi-country", "DE")
    assert main(words(made, house, ssh_key, "trixie", tmp_path / "card", *more)) == 0
    checked = subprocess.run(
        [tool, "schema", "--config-file", tmp_path / "card/user-data"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    # Debian's own Python has the YAML that cloud-init reads with.
    code = "import sys, yaml, json; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))"
    read = subprocess.run(
        ["/usr/bin/python3", "-c", code, tmp_path / "card/network-config"], capture_output=True, text=True, check=True
    )
    assert '"Haus \\"1\\": #2": {"password": "correct \\"horse\\": #battery"}' in read.stdout


def test_a_bookworm_card_that_is_mounted_gets_its_boot_line_once(
    made: tuple[Path, Signer], house: Path, ssh_key: Path, tmp_path: Path
) -> None:
    out = tmp_path / "card"
    out.mkdir()
    (out / "cmdline.txt").write_text("console=tty1 root=PARTUUID=1-02 rootwait\n")
    for _ in range(2):
        assert main(words(made, house, ssh_key, "bookworm", out, "--no-enroll")) == 0
    text = (out / "cmdline.txt").read_text()
    assert text.count("systemd.run=/boot/firmware/firstrun.sh") == 1 and text.count("\n") == 1
    assert subprocess.run(["sh", "-n", out / "firstrun.sh"], check=False).returncode == 0
    assert KEY in (out / "firstrun.sh").read_text()


def test_a_token_on_a_card_lives_as_long_as_it_says(
    made: tuple[Path, Signer], house: Path, ssh_key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, signer = made
    repository = Repository(tmp_path / "updates", UpdateKeys(tmp_path / "update-keys"))
    repository.create()
    monkeypatch.setenv("EDGEKIT_UPDATES", str(repository.folder))
    with config_home(tmp_path / "config"):
        fleet = found_fleet(tmp_path / "config/fleet")
        done = make_card(
            bundle, "trixie", tmp_path / "card", settings={"id": "porch"}, ssh_key=ssh_key, wheels=house,
            public_key=signer.public, token_hours=2,
        )  # fmt: skip
        assert done.token_hours == 2
        from edgekit_device.contract.enrolment import parse_invitation

        token = tmp_path / "card/edgekit/token"
        assert token.stat().st_mode & 0o777 == 0o600
        found = parse_invitation(token.read_text())
        settings = read_device_toml(tmp_path / "card/edgekit/device.toml")
        assert str(settings["broker"]).startswith("mqtts://")
        # Updates over the air need no other hand.
        assert settings["updates"] == "https://127.0.0.1:8080/updates/"
        assert (tmp_path / "card/edgekit/root.json").read_bytes() == repository.root_bytes()
        now_s = time.time()
        assert not fleet.registry.spend(found.number, found.secret, "home.porch", now_s + 2 * 3600 + 60)
        assert fleet.registry.spend(found.number, found.secret, "home.porch", now_s + 2 * 3600 - 60)


def test_what_cannot_be_written_to_a_card_is_named(
    made: tuple[Path, Signer], house: Path, ssh_key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "card"
    assert main(words(made, house, ssh_key, "jessie", out)) == 2
    assert main(words(made, house, ssh_key, "trixie", out, "--token-hours", "9999")) == 2
    assert main(words(made, house, ssh_key, "trixie", out, "--no-enroll", "--user", "pi; reboot")) == 2
    ssh_key.write_text("ssh-ed25519 AAAA'\nrunning: away\n")
    assert main(words(made, house, ssh_key, "trixie", out, "--no-enroll")) == 2
    assert not out.exists()
    capsys.readouterr()


def test_a_card_without_wheels_says_what_to_fetch(made: tuple[Path, Signer], ssh_key: Path, tmp_path: Path) -> None:
    bundle, signer = made
    (tmp_path / "none").mkdir()
    with pytest.raises(WheelsError, match="edgekit wheels fetch"):
        make_card(
            bundle, "trixie", tmp_path / "card", settings={"id": "porch"}, ssh_key=ssh_key, public_key=signer.public,
            wheels=tmp_path / "none", enroll=False,
        )  # fmt: skip
    assert not (tmp_path / "card").exists()


def test_a_card_is_no_device(made: tuple[Path, Signer], house: Path, ssh_key: Path) -> None:
    bundle, signer = made
    with pytest.raises(UsageError, match="folder"):
        make_card(
            bundle, "trixie", "/dev/null", settings={"id": "porch"}, ssh_key=ssh_key, public_key=signer.public,
            wheels=house, enroll=False,
        )  # fmt: skip


def card_of_this_machine(made: tuple[Path, Signer], place: Path, **settings: object) -> tuple[Card, dict[str, bytes]]:
    """A card for boards that are of this machine's kind, on which the system brings what wheels would."""
    pips = sorted(Path("/usr/share/python-wheels").glob("pip-*.whl"))
    if not pips:
        absent("a wheel of pip", "apt install python3-venv")
    bundle, signer = made
    opened, _ = open_bundle(bundle, [signer.public])
    packages = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    python = PythonFacts("/usr/bin/python3", sys.version_info[:3], libc="2.36", packages=packages)
    card = Card("bookworm", bundle, opened, signer.public, settings, KEY)
    # For a board with picamera2, which this one is not: never installed here.
    other = wheel(place, f"opencv_python_headless-4.11.0-cp37-abi3-manylinux_2_17_{os.uname().machine}.whl")
    found: list[Wheel] = [read_wheel(pips[0]), read_wheel(other)]
    (place / "scratch").mkdir()
    return card, card_files(card, found, place / "scratch", System(machine=os.uname().machine, python=python))


def boot(world: SshWorld, *words: str) -> list[str]:
    """The words that run something on a board, as its own root."""
    return ["nsenter", "-t", str(world.pid), "-m", "-p", "-r", "-w", *words]


FIRST_BOOT = ("sh", "/boot/firmware/edgekit/first-boot.sh")


def test_the_first_boot_makes_a_board_and_may_be_cut_anywhere(made: tuple[Path, Signer], tmp_path: Path) -> None:
    require_boards()
    card, files = card_of_this_machine(made, tmp_path, site="home", id="porch", source="synthetic")
    files |= {"edgekit/root.json": b"whom to believe"}
    place = tmp_path / "board"
    place.mkdir()
    with ssh_board(place) as world:
        write_card(files, world.root / "boot/firmware")
        first = boot(world, *FIRST_BOOT)
        # Cut early, cut in the making of the environment, then left alone, then once more: nothing to do.
        for limit_s in ("0.3", "3"):
            subprocess.run(["timeout", "-s", "KILL", limit_s, *first], capture_output=True, check=False)
        for _ in range(2):
            ran = subprocess.run(first, capture_output=True, text=True, check=False, timeout=600)
            assert ran.returncode == 0, ran.stdout + ran.stderr
        home = world.root / "opt/edgekit"
        assert os.readlink(home / "current").endswith("toy-1.0.0")
        assert read_device_toml(world.root / "etc/edgekit/device.toml") == dict(card.settings)
        assert (world.root / "etc/edgekit/updates/root.json").read_bytes() == b"whom to believe"
        asked = boot(world, "/opt/edgekit/venv/bin/edgekit-device", "--version")
        said = subprocess.run(asked, capture_output=True, text=True, check=False)
        assert said.stdout.startswith("edgekit-device "), said.stderr
        assert (world.root / "etc/systemd/system/edgekit-device.service").is_file()


def test_a_board_from_a_card_is_a_member_and_its_token_is_good_once(
    made: tuple[Path, Signer], tmp_path: Path, require_tool: Callable[[str, str], str]
) -> None:
    require_boards()
    require_tool("mosquitto", "apt install mosquitto")
    with config_home(tmp_path / "config"):
        fleet = World(found_fleet(tmp_path / "config/fleet"), tmp_path)
        try:
            from_card_to_member(made, fleet, tmp_path)
        finally:
            fleet.stop()


def from_card_to_member(made: tuple[Path, Signer], fleet: World, tmp_path: Path) -> None:
    """One board's life with its card, beside a fleet that is not up yet."""
    joined = FleetMembership(fleet.fleet)
    settings = {"site": "home", "id": "porch", "source": "synthetic:160x120@30", "interval_s": 1.0}
    _, files = card_of_this_machine(made, tmp_path, broker=joined.broker, **settings)
    files["edgekit/token"] = joined.invite("home", "porch", 24.0).encode() + b"\n"
    place = tmp_path / "board"
    place.mkdir()
    with ssh_board(place) as world:
        card = world.root / "boot/firmware"
        write_card(files, card)
        # The host is away when the board first boots: that serves, keeps its token, and comes again.
        away = subprocess.run(boot(world, *FIRST_BOOT), capture_output=True, text=True, check=False, timeout=600)
        assert away.returncode != 0 and (card / "edgekit/token").is_file()
        assert os.readlink(world.root / "opt/edgekit/current").endswith("toy-1.0.0")
        fleet.start()
        ran = subprocess.run(boot(world, *FIRST_BOOT), capture_output=True, text=True, check=False, timeout=600)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert not (card / "edgekit/token").exists()
        identity = world.root / "var/lib/edgekit/identity"
        for name in ("credentials.json", "board.pem"):
            assert (stat.S_IMODE((identity / name).stat().st_mode), (identity / name).stat().st_uid != 0) == (
                0o600,
                True,
            )
        (member,) = [m for m in fleet.fleet.registry.members() if m.account.role == "board"]
        assert member.account.name == "home.porch"
        # What runs there speaks to the fleet's own broker, under that name.
        words = ["runuser", "-u", "edgekit", "--", "env", "HOME=/var/lib/edgekit", "/opt/edgekit/launch", "run"]
        with listening(fleet, "edgekit/v1/home/porch/telemetry") as heard:
            service = subprocess.Popen(boot(world, *words, "--root", "/"), stdin=subprocess.DEVNULL)
            try:
                assert eventually(lambda: any(reading["fps"] > 0 for reading in heard), 120)
            finally:
                service.terminate()
                service.wait(60)
        # A copy of the card brings nobody in, and keeps its board from nothing else.
        write_card(files, card)
        (identity / "credentials.json").unlink()
        again = subprocess.run(boot(world, *FIRST_BOOT), capture_output=True, text=True, check=False, timeout=600)
        assert again.returncode != 0 and "token" in again.stderr
        assert not (identity / "credentials.json").exists()
        assert len([m for m in fleet.fleet.registry.members() if m.account.role == "board"]) == 1


@contextmanager
def listening(fleet: World, topic: str) -> Iterator[list[dict[str, Any]]]:
    """What is said on a topic from now on."""
    import paho.mqtt.client as mqtt
    from paho.mqtt.enums import CallbackAPIVersion

    heard: list[dict[str, Any]] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2, OBSERVER, protocol=mqtt.MQTTv5)
    pem = fleet.fleet.authority.certificate.decode()
    client.tls_set_context(ssl.create_default_context(cadata=pem))
    client.username_pw_set(OBSERVER, fleet.add_observer())
    client.on_message = lambda c, data, message: heard.append(json.loads(message.payload))
    client.on_connect = lambda c, *_: c.subscribe(topic, 1)
    client.connect("127.0.0.1", fleet.fleet.settings.port)
    client.loop_start()
    try:
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()
