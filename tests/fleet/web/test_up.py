"""`edgekit fleet up`, as typed: one command, ends clean, and says what is in its way."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from edgekit.cli import main
from edgekit.errors import NotInitialisedError
from edgekit.fleet.database import sqlite_url
from edgekit.fleet.store import Store
from edgekit.fleet.up import Plan, check_reach, is_initialised, up
from edgekit.fleet.web.running import DashboardOptions
from edgekit.fleet.web.serving import Certificate
from edgekit_device.publish.broker_url import parse_broker_url
from tests.worlds.boards import HonestBoard, eventually


@pytest.fixture(autouse=True)
def no_fleet_of_the_users_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))


Said = pytest.CaptureFixture[str]


@contextmanager
def running(folder: Path, *more: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    words = [sys.executable, "-m", "edgekit", "fleet", "up", "--port", "0", "--broker-port", "0", "--json", *more]
    process = subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise AssertionError(process.communicate()[1])
    try:
        yield process, json.loads(line)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_one_command_takes_what_boards_send_shows_it_and_ends_clean_on_ctrl_c(tmp_path: Path) -> None:
    with running(tmp_path) as (process, said):
        with HonestBoard(parse_broker_url(said["broker"])) as board:
            for seq in range(3):
                board.make(seq)
            with httpx.Client(follow_redirects=True, trust_env=False, timeout=20) as browser:
                assert "EdgeKit" in browser.get(said["dashboard"]).text
                origin = said["dashboard"].partition("/?")[0]
                assert eventually(lambda: "porch" in browser.get(origin).text)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
        with Store(sqlite_url(tmp_path / "fleet.db")) as store:
            assert store.summary().stored == 3
        port = int(said["broker"].rpartition(":")[2])
        with socket.socket() as probe, pytest.raises(ConnectionRefusedError):
            probe.connect(("127.0.0.1", port))


@contextmanager
def taken() -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_that_is_taken_is_said_with_the_remedy(tmp_path: Path, capsys: Said) -> None:
    store = ["--store", str(tmp_path / "fleet.db")]
    with taken() as port:
        assert main(["fleet", "up", "--port", str(port), *store]) == 1
        assert "the port is taken; choose another with --port" in capsys.readouterr().err
        assert main(["fleet", "up", "--port", "0", "--broker-port", str(port), *store]) == 1
        assert "use that broker: --broker" in capsys.readouterr().err


def test_a_broker_that_is_away_and_a_store_of_a_later_version_are_said(tmp_path: Path, capsys: Said) -> None:
    store = ["--store", str(tmp_path / "fleet.db"), "--port", "0"]
    with taken() as port:
        pass
    assert main(["fleet", "up", "--broker", f"mqtt://127.0.0.1:{port}", *store]) == 1
    assert "check --broker" in capsys.readouterr().err
    with Store(sqlite_url(tmp_path / "fleet.db")) as opened, opened.writing() as connection:
        connection.exec_driver_sql("UPDATE schema_version SET version = 99")
    assert main(["fleet", "up", "--broker-port", "0", *store]) == 1
    assert "upgrade edgekit on this machine" in capsys.readouterr().err


def test_beyond_loopback_nothing_is_served_before_the_fleet_is_protected(tmp_path: Path, capsys: Said) -> None:
    folder = tmp_path / "fleet"
    plan = Plan(sqlite_url(tmp_path / "fleet.db"), host="0.0.0.0", port=0, folder=folder)
    with pytest.raises(NotInitialisedError, match="edgekit fleet init"):
        check_reach(plan)
    assert not is_initialised(folder)
    folder.mkdir()
    (folder / "fleet.toml").touch()
    with pytest.raises(NotInitialisedError, match="no certificate"):
        check_reach(plan)
    protected = DashboardOptions(certificate=Certificate(tmp_path / "c", tmp_path / "k"))
    with pytest.raises(NotInitialisedError, match="edgekit fleet user add"):
        with up(Plan(plan.store_url, host="0.0.0.0", port=0, broker_port=0, folder=folder, dashboard=protected)):
            pass
    assert not any(line.split()[3] == "0A" and line.split()[1].startswith("00000000") for line in _listening())


def _listening() -> list[str]:
    inodes = {
        os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.islink(f"/proc/self/fd/{fd}")
    }
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return [line for line in lines if f"socket:[{line.split()[9]}]" in inodes]


def test_by_default_only_this_machine_can_reach_it(tmp_path: Path) -> None:
    plan = Plan(sqlite_url(tmp_path / "fleet.db"), port=0, broker_port=0)
    with up(plan) as everything:
        assert everything.dashboard.origin.startswith("http://127.0.0.1:")
        assert everything.broker.host == "127.0.0.1"
        assert all(line.split()[1].startswith("0100007F") for line in _listening() if line.split()[3] == "0A")


def test_users_are_added_listed_and_removed(tmp_path: Path, capsys: Said) -> None:
    store, secret = ["--store", str(tmp_path / "fleet.db")], tmp_path / "password"
    secret.write_text("correct horse battery\n")
    add = [
        "fleet",
        "user",
        "add",
        "olga",
        "--role",
        "operator",
        "--site",
        "home",
        "--password-file",
        str(secret),
        *store,
    ]
    assert main(add) == 0
    assert "operator for home" in capsys.readouterr().out
    assert main(["fleet", "user", "list", "--json", *store]) == 0
    assert json.loads(capsys.readouterr().out) == {"users": [{"name": "olga", "role": "operator", "sites": ["home"]}]}
    assert main(["fleet", "user", "remove", "olga", *store]) == 0
    assert main(["fleet", "user", "remove", "olga", *store]) == 2
    secret.write_text("short")
    assert main(add) == 2
    assert "at least 12" in capsys.readouterr().err


def test_alerts_and_top_answer_scripts(filled: Path, tmp_path: Path, capsys: Said) -> None:
    import shutil

    file = tmp_path / "fleet.db"
    shutil.copy(filled, file)
    assert main(["fleet", "top", "--store", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["boards"] == 24
    assert main(["fleet", "top", "--store", str(file), "--once"]) == 0
    assert "7 need you" in capsys.readouterr().out
    assert main(["fleet", "alerts", "--store", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"alerts": []}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--cert", "x.pem"], "go together"), (["--config", "none.toml"], "no such file"),
        (["--proxy-header", "X-User"], "--proxy-from"), (["--token-file", "none"], "No such file"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(words: list[str], message: str, tmp_path: Path, capsys: Said) -> None:
    assert main(["fleet", "up", "--store", str(tmp_path / "fleet.db"), *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
