"""Boards on this machine: a root of their own, their own users, processes and sshd, behind a loopback port.

Each is Debian's own sshd in a chroot with this machine's /usr below it (read-only), in a mount and a process namespace
of its own: killing it pulls the plug on everything that runs there. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import absent
from tests.worlds.services import free_port

APT = "apt install openssh-server sudo util-linux"
SYSTEM_PYTHON = "/usr/bin/python3"
_PASSWD = """root:x:0:0:root:/root:/bin/sh
sshd:x:103:65534::/run/sshd:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/:/usr/sbin/nologin
pi:x:1000:1000::/home/pi:/bin/sh
"""
_GROUPS = """root:x:0:
shadow:x:42:
sudo:x:27:
video:x:44:
render:x:105:
plugdev:x:46:
nogroup:x:65534:
pi:x:1000:
"""
_SSHD = """Port {port}
ListenAddress {address}
HostKey /etc/ssh/host_key
PidFile none
PermitRootLogin yes
PasswordAuthentication yes
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
StrictModes no
MaxStartups 100
LogLevel VERBOSE
{more}
"""


@dataclass
class Flaws:
    """What is wrong with a board.

    Attributes:
        disk_bytes: Its whole disk is this large; None takes this machine's.
        personality: ``i686`` makes the kernel say that it is a 32-bit PC.
        python: The text of a program in place of /usr/bin/python3.
        sudo: The line of sudoers for pi; empty for none.
        clock: What libfaketime makes of the clock, e.g. ``@1970-01-01 00:05:00``; None leaves it.
        os_release: Text of /etc/os-release; None takes this machine's.
        packages: Whether the board's system Python has numpy, OpenCV and the interpreter, as apt would bring them.
        apt: No flaw: packages can be installed, with dpkg's own records.
    """

    disk_bytes: int | None = None
    personality: str | None = None
    python: str | None = None
    sudo: str = "pi ALL=(ALL) NOPASSWD: ALL"
    clock: str | None = None
    os_release: str | None = None
    packages: bool = True
    apt: bool = False


@dataclass
class SshWorld:
    """One board, running.

    Attributes:
        place: Folder of this test for it.
        port: Where its sshd listens.
        address: The same.
        host: The unshare process: its end is the end of everything on the board.
        flaws: What is wrong with it.
        netns: Network namespace it lives in; empty for this machine's.
        key: The private key that is let in.
    """

    place: Path
    port: int
    key: Path
    address: str = "127.0.0.1"
    flaws: Flaws = field(default_factory=Flaws)
    netns: str = ""
    host: subprocess.Popen[bytes] | None = None
    pid: int = 0

    @property
    def root(self) -> Path:
        """The board's disk, seen from outside; only while it runs."""
        return Path(f"/proc/{self.pid}/root")

    @property
    def disk(self) -> Path:
        """Where the disk lies when the board is off; not for one with a disk of its own size."""
        return self.place / "root"

    def url(self, user: str = "") -> str:
        """The target's word. sudo would take the wrong clock away again, hence root for that one."""
        user = user or ("root" if self.flaws.clock else "pi")
        return f"ssh://{user}@{self.address}:{self.port}"

    def start(self) -> None:
        """Power on."""
        words = ["unshare", "-m", "-p", "--fork", "--kill-child", "--propagation", "private", "sh", self._script()]
        if self.netns:
            words = ["ip", "netns", "exec", self.netns, *words]
        with (self.place / "sshd.log").open("ab") as log:
            self.host = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + 30
        while not self._up():
            if time.monotonic() > until or self.host.poll() is not None:
                raise AssertionError(f"no sshd: {(self.place / 'sshd.log').read_text()[-2000:]}")
            time.sleep(0.05)

    def pull_the_plug(self) -> None:
        """Power off, at once."""
        if self.host is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid or self.host.pid, signal.SIGKILL)
            self.host.kill()
            self.host.wait(20)
        self.host, self.pid = None, 0

    def _up(self) -> bool:
        assert self.host is not None
        log = (self.place / "sshd.log").read_text("utf-8", "replace")
        if log.count("Server listening") <= self._starts_before:
            return False
        self.pid = _grandchild(self.host.pid)
        return self.pid != 0

    def _script(self) -> Path:
        log = self.place / "sshd.log"
        self._starts_before = log.read_text("utf-8", "replace").count("Server listening") if log.exists() else 0
        root, flaws = self.disk, self.flaws
        lines = ["set -e", f"R={root}", "mkdir -p $R"]
        if flaws.disk_bytes:
            lines += [f"mount -t tmpfs -o size={flaws.disk_bytes},mode=755 tmpfs $R", f"cp -a {self.place}/base/. $R/"]
        elif not root.exists():
            shutil.copytree(self.place / "base", root, symlinks=True)
        lines += ["mount --rbind /dev $R/dev", "mount -t proc proc $R/proc"]
        if flaws.apt:
            # A /usr of its own to write to, above this machine's.
            over = self.place / "usr"
            over.mkdir(exist_ok=True)
            lines += [f"mount -t tmpfs tmpfs {over}", f"mkdir {over}/upper {over}/work"]
            layers = f"lowerdir=/usr,upperdir={over}/upper,workdir={over}/work"
            lines += [f"mount -t overlay -o {layers} overlay $R/usr"]
        else:
            lines += ["mount --bind /usr $R/usr", "mount -o remount,bind,ro $R/usr"]
        lines += ["mount -t tmpfs -o mode=755 tmpfs $R/run"]
        lines += ["mkdir -p $R/run/sshd $R/run/lock"]
        if flaws.packages:
            site = sysconfig.get_path("purelib")
            minor = f"{sys.version_info.major}.{sys.version_info.minor}"
            lines += [f"mount --bind {site} $R/usr/local/lib/python{minor}/dist-packages"]
        if flaws.python is not None:
            (self.place / "python3").write_text(flaws.python)
            (self.place / "python3").chmod(0o755)
            lines += [f"mount --bind {self.place}/python3 $R{Path(SYSTEM_PYTHON).resolve()}"]
        before = f"setarch {flaws.personality} " if flaws.personality else ""
        lines += [f"exec {before}chroot $R /usr/sbin/sshd -D -e -f /etc/ssh/sshd_config"]
        script = self.place / "up.sh"
        script.write_text("\n".join(lines) + "\n")
        return script


def _grandchild(pid: int) -> int:
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    return int(words[0]) if words else 0


def make_board(place: Path, flaws: Flaws | None = None, *, address: str = "127.0.0.1", netns: str = "") -> SshWorld:
    """Write a board's disk; it is off."""
    flaws, base = flaws or Flaws(), place / "base"
    for name in (
        "dev",
        "proc",
        "sys",
        "usr",
        "run",
        "tmp",
        "root",
        "opt",
        "var/lib",
        "var/cache",
        "etc/ssh",
        "etc/sudoers.d",
    ):
        (base / name).mkdir(parents=True, exist_ok=True)
    (base / "tmp").chmod(0o1777)
    (base / "home/pi/.ssh").mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        if Path(f"/{name}").is_symlink():
            (base / name).symlink_to(f"usr/{name}")
    etc = base / "etc"
    for name in ("alternatives", "ssl", "ld.so.conf.d", "pam.d", "security"):
        if Path("/etc", name).is_dir():
            shutil.copytree(Path("/etc", name), etc / name, symlinks=True)
    for name in ("ld.so.cache", "ld.so.conf", "login.defs", "debian_version", "hosts"):
        if Path("/etc", name).exists():
            shutil.copy(Path("/etc", name), etc / name)
    for name in ("environment", "default/locale"):
        (etc / name).parent.mkdir(exist_ok=True)
        (etc / name).touch()
    release = flaws.os_release if flaws.os_release is not None else Path("/etc/os-release").read_text()
    (etc / "os-release").write_text(release)
    (etc / "passwd").write_text(_PASSWD)
    (etc / "group").write_text(_GROUPS)
    hashed = subprocess.run(["openssl", "passwd", "-6", "raspberry"], capture_output=True, text=True, check=True)
    (etc / "shadow").write_text(f"root:*:19000::::::\npi:{hashed.stdout.strip()}:19000::::::\n")
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")
    (etc / "hostname").write_text("porch\n")
    (etc / "sudoers").write_text(f"root ALL=(ALL) ALL\n{flaws.sudo}\n" if flaws.sudo else "root ALL=(ALL) ALL\n")
    (etc / "sudoers").chmod(0o440)
    key = place / "id"
    for path in (key, etc / "ssh/host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    public = key.with_suffix(".pub").read_text()
    for home in ("root", "home/pi"):
        (base / home / ".ssh").mkdir(exist_ok=True)
        (base / home / ".ssh/authorized_keys").write_text(public)
    os.chown(base / "home/pi", 1000, 1000)
    port = 22 if netns else free_port()
    if flaws.apt:
        (base / "var/lib/dpkg/info").mkdir(parents=True)
        (base / "var/lib/dpkg/updates").mkdir()
        (base / "var/lib/dpkg/status").touch()
    more = ""
    if flaws.clock:
        # In sessions only: sshd itself under a wrong clock dropped a connection, once in six.
        library = f"/usr/lib/{platform.machine()}-linux-gnu/faketime/libfaketime.so.1"
        more = f'SetEnv LD_PRELOAD={library} "FAKETIME={flaws.clock}"'
    (etc / "ssh/sshd_config").write_text(_SSHD.format(port=port, address=address, more=more))
    return SshWorld(place, port, key, address, flaws, netns)


@contextlib.contextmanager
def ssh_board(place: Path, flaws: Flaws | None = None) -> Iterator[SshWorld]:
    """A board that is on."""
    world = make_board(place, flaws)
    world.start()
    try:
        yield world
    finally:
        world.pull_the_plug()


def require_boards() -> None:
    """Skip loudly where such boards cannot be made."""
    for tool in ("/usr/sbin/sshd", "/usr/bin/sudo", "/usr/bin/unshare"):
        if not Path(tool).exists():
            absent(tool, APT)
    if os.geteuid() != 0:
        pytest.skip("needs root: a chroot with an sshd of its own")
    found = subprocess.run(["unshare", "-m", "-p", "--fork", "true"], capture_output=True, check=False)
    if found.returncode:
        pytest.skip("needs mount and process namespaces")
