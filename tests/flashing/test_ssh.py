"""The seam over SSH: a real sshd, real users, real sudo."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from edgekit.flashing.errors import (
    BoardDiskError,
    ChangedHostKeyError,
    LoginError,
    NoRightsError,
    UnreachableError,
)
from edgekit.flashing.hostkeys import HostKeys, host_name
from edgekit.flashing.login import Secrets
from edgekit.flashing.ssh import SshBoard, open_board
from edgekit.flashing.targets import SshTarget, parse_target
from tests.worlds.boards import eventually
from tests.worlds.services import free_port
from tests.worlds.ssh_boards import Flaws, SshWorld, require_boards, ssh_board


@pytest.fixture(autouse=True, scope="module")
def _boards() -> None:
    require_boards()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshWorld]:
    with ssh_board(tmp_path_factory.mktemp("board")) as made:
        yield made


def visit(
    world: SshWorld,
    keys: Path,
    do: Callable[[SshBoard], Awaitable[object]],
    *,
    user: str = "pi",
    answers: tuple[str, ...] = (),
    with_key: bool = True,
    config: str = "",
    url: str = "",
) -> object:
    """Log in, do something, log out."""
    path = keys.with_name("ssh_config")
    identity = f"IdentityFile {world.key}\n" if with_key else "IdentityFile none\nIdentityAgent none\n"
    path.write_text(config or identity)
    left = list(answers)
    secrets = Secrets(lambda question: left.pop(0) if left else None)

    async def main() -> object:
        target = parse_target(url or world.url(user))
        assert isinstance(target, SshTarget)
        board = await open_board(target, HostKeys(keys), secrets, config=str(path))
        try:
            return await do(board)
        finally:
            await board.close()

    return asyncio.run(main())


async def who(board: SshBoard) -> str:
    return (await board.run(["id", "-u"])).text


def test_a_key_lets_us_in_and_sudo_makes_us_root(world: SshWorld, tmp_path: Path) -> None:
    assert visit(world, tmp_path / "known", who) == "0"
    assert visit(world, tmp_path / "known", who, user="root") == "0"


def test_an_agent_lets_us_in(world: SshWorld, tmp_path: Path) -> None:
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        assert eventually(socket.exists)
        environment = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
        subprocess.run(["ssh-add", "-q", str(world.key)], env=environment, check=True)
        assert visit(world, tmp_path / "known", who, config=f"IdentityFile none\nIdentityAgent {socket}\n") == "0"
    finally:
        agent.terminate()
        agent.wait(20)


def test_names_users_ports_and_jumps_of_ssh_config_are_honoured(world: SshWorld, tmp_path: Path) -> None:
    words = f"""Host shed
  HostName 127.0.0.1
  Port {world.port}
  User pi
  IdentityFile {world.key}
  ProxyJump gate
Host gate
  HostName 127.0.0.1
  Port {world.port}
  User root
  IdentityFile {world.key}
"""
    with pytest.raises(LoginError, match=r"ProxyJump.*not known"):
        visit(world, tmp_path / "known", who, config=words, url="ssh://shed")
    own, shown = tmp_path / "own", (world.root / "etc/ssh/host_key.pub").read_text()
    own.write_text(f"[127.0.0.1]:{world.port} {shown}")
    words += f"  UserKnownHostsFile {own}\n"
    before = (world.place / "sshd.log").read_text("utf-8", "replace").count("Accepted publickey")
    assert visit(world, tmp_path / "known", who, config=words, url="ssh://shed") == "0"
    log = (world.place / "sshd.log").read_text("utf-8", "replace")
    # Once as root, to jump, and once as pi.
    assert log.count("Accepted publickey") == before + 2 and "Accepted publickey for root" in log


def test_the_host_key_is_pinned_at_first_use_and_another_one_is_refused(world: SshWorld, tmp_path: Path) -> None:
    known = tmp_path / "known"
    visit(world, known, who)
    name = host_name("127.0.0.1", world.port)
    shown = " ".join((world.root / "etc/ssh/host_key.pub").read_text().split()[:2])
    assert known.read_text() == f"{name} {shown}\n"
    assert stat.S_IMODE(known.stat().st_mode) == 0o600
    visit(world, known, who)
    assert len(known.read_text().splitlines()) == 1
    other = (world.key.with_suffix(".pub")).read_text().split()
    known.write_text(f"{name} {other[0]} {other[1]}\n")
    before = known.read_bytes()
    for _ in range(2):
        with pytest.raises(ChangedHostKeyError, match="ssh-keygen -R"):
            visit(world, known, who)
    assert known.read_bytes() == before


def test_who_is_not_let_in_pins_nothing(world: SshWorld, tmp_path: Path) -> None:
    with pytest.raises(LoginError, match="ssh-copy-id"):
        visit(world, tmp_path / "known", who, with_key=False)
    with pytest.raises(LoginError):
        visit(world, tmp_path / "known", who, with_key=False, answers=("wrong", "wrong", "wrong"))
    assert not (tmp_path / "known").exists()


def test_a_password_is_asked_for_and_serves_sudo_too(tmp_path: Path) -> None:
    with ssh_board(tmp_path / "b", Flaws(sudo="pi ALL=(ALL) ALL")) as world:
        assert visit(world, tmp_path / "k1", who, with_key=False, answers=("raspberry",)) == "0"
        assert visit(world, tmp_path / "k1", who, answers=("wrong", "raspberry")) == "0"
        with pytest.raises(NoRightsError, match="run this on a terminal"):
            visit(world, tmp_path / "k1", who)

        async def send(board: SshBoard) -> object:
            await board.write("/opt/sent", b"not the password\n")
            return await board.read("/opt/sent")

        assert visit(world, tmp_path / "k1", send, answers=("raspberry",)) == b"not the password\n"


def test_without_sudo_the_remedy_is_named(tmp_path: Path) -> None:
    with ssh_board(tmp_path / "b", Flaws(sudo="")) as world:
        with pytest.raises(NoRightsError, match="usermod -aG sudo pi"):
            visit(world, tmp_path / "known", who, answers=("raspberry",))


def test_nothing_there_is_named(tmp_path: Path) -> None:
    secrets = Secrets(lambda _: None)
    target = SshTarget("127.0.0.1", "pi", free_port())
    with pytest.raises(UnreachableError, match="runs no SSH server"):
        asyncio.run(open_board(target, HostKeys(tmp_path / "known"), secrets))
    with pytest.raises(UnreachableError, match="edgekit devices"):
        asyncio.run(open_board(SshTarget("no-such-board.invalid"), HostKeys(tmp_path / "known"), secrets))


def test_files_arrive_whole_with_mode_and_owner(world: SshWorld, tmp_path: Path) -> None:
    data = bytes(range(256)) * 50

    async def do(board: SshBoard) -> object:
        await board.make_folder("/opt/a b/c", mode=0o750, owner="pi")
        await board.write("/opt/a b/c/x", data, mode=0o640, owner="pi")
        await board.link("/opt/a b/link", "c/x")
        found = dict(await board.entries("/opt/a b/c"))
        assert (await board.entry("/opt/a b/c")).mode == 0o750  # type: ignore[union-attr]
        assert (await board.entry("/opt/a b/link")).target == "c/x"  # type: ignore[union-attr]
        assert await board.read("/opt/a b/link") == data
        assert await board.read("/opt/none") is None and await board.entries("/none") == {}
        await board.remove("/opt/a b")
        assert await board.entry("/opt/a b") is None
        return found

    found = visit(world, tmp_path / "known", do)
    assert list(found) == ["x"]  # type: ignore[call-overload]
    assert (found["x"].mode, found["x"].owner, found["x"].size_bytes) == (0o640, "pi", len(data))  # type: ignore[index]


def test_what_is_there_is_not_sent_again_also_half_of_it(world: SshWorld, tmp_path: Path) -> None:
    source = tmp_path / "wheel"
    source.write_bytes(bytes(range(256)) * 2000)
    whole = source.stat().st_size

    async def do(board: SshBoard) -> list[int]:
        sent = [await board.put(source, "/opt/w"), await board.put(source, "/opt/w")]
        for half in (source.read_bytes()[:300_000], b"x" + source.read_bytes()[:100], source.read_bytes() + b"more"):
            await board.remove("/opt/w")
            await board.write("/opt/w.part", half)
            sent.append(await board.put(source, "/opt/w"))
            assert await board.read("/opt/w", 1 << 30) == source.read_bytes()
        assert list(await board.entries("/opt")) == ["w"]
        await board.remove("/opt/w")
        return sent

    assert visit(world, tmp_path / "known", do) == [whole, 0, whole - 300_000, whole, whole]


def test_a_full_disk_is_named_and_leaves_the_old_file(tmp_path: Path) -> None:
    with ssh_board(tmp_path / "b", Flaws(disk_bytes=8 << 20)) as world:

        async def do(board: SshBoard) -> None:
            await board.write("/opt/x", b"old")
            with pytest.raises(BoardDiskError, match="its disk is full"):
                await board.write("/opt/x", bytes(9 << 20))
            assert await board.read("/opt/x") == b"old"
            assert list(await board.entries("/opt")) == ["x"]

        visit(world, tmp_path / "known", do)
