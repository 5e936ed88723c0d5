"""The board on your desk that is not there: Debian for arm64 under emulation, with its own sshd, users and network.

    python tools/emulated_board.py make build/emulated-board      # once, some minutes
    python tools/emulated_board.py up build/emulated-board        # prints the target; Ctrl-C pulls its plug

It lives in network, mount and process namespaces of its own behind a veth pair, with a Raspberry Pi 4's processor to
see. Log in as root: a set-uid sudo is not honoured under this emulation. Pulling the plug kills every process at once;
what the board had written and not synced stays, which a real power cut may take: gate A2 tries that. Nothing here is a
Raspberry Pi, and no time is a Pi's. Needs root, and: apt install qemu-user-static openssh-server iproute2
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.make_arm64_root import PACKAGES, make, register

CPU = "cortex-a72"
MORE = """
    openssh-server sudo passwd login iproute2 adduser init-system-helpers libpam-modules libpam-runtime mount dpkg tar
    gzip netbase libstdc++6 libgomp1 zlib1g
""".split()  # noqa: SIM905
# Raspberry Pi OS has numpy and no OpenCV; Debian's with its 300 libraries takes a minute to import under emulation.
LESS = ("gcc", "libc6-dev", "python3-opencv")
_PAM = {"auth": "pam_deny.so", "account": "pam_unix.so", "password": "pam_deny.so", "session": "pam_unix.so"}
_UP_S = 120.0
_SSHD = f"""HostKey /etc/ssh/host_key
PidFile none
PermitRootLogin yes
PasswordAuthentication no
UsePAM no
UseDNS no
StrictModes no
# A session does not inherit the emulator's processor by itself.
SetEnv QEMU_CPU={CPU} OPENBLAS_NUM_THREADS=1
"""


@dataclass
class EmulatedBoard:
    """One board.

    Attributes:
        place: Its folder: `root` as Debian made it, `disk` with what was written since, keys, log.
        address: Of the board, on its wire.
        host: Of this machine, on the same wire.
        pid: The board's first process; 0 while it is off.
    """

    place: Path
    address: str = ""
    host: str = ""
    pid: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _wire: str = ""

    @property
    def key(self) -> Path:
        """The private key that is let in."""
        return self.place / "id"

    @property
    def target(self) -> str:
        """For `edgekit flash`."""
        return f"ssh://root@{self.address}"

    @property
    def root(self) -> Path:
        """Its disk, seen from here; only while it is on."""
        return Path(f"/proc/{self.pid}/root")

    def connect(self) -> None:
        """Lay the wire: a network namespace, and a veth pair into it."""
        number = next(n for n in range(64) if f"198.18.{n}.1" not in _addresses())
        self.host, self.address = f"198.18.{number}.1", f"198.18.{number}.2"
        self._wire = f"edgekit{number}"
        for line in (
            f"netns add {self._wire}",
            f"link add {self._wire}h type veth peer name eth0 netns {self._wire}",
            f"addr add {self.host}/30 dev {self._wire}h",
            f"link set {self._wire}h up",
            f"-n {self._wire} addr add {self.address}/30 dev eth0",
            f"-n {self._wire} link set lo up",
            f"-n {self._wire} link set eth0 up",
        ):
            subprocess.run(["ip", *line.split()], check=True)

    def disconnect(self) -> None:
        """Take the wire away; the pair goes with the namespace."""
        subprocess.run(["ip", "netns", "del", self._wire], check=False)

    def power_on(self) -> None:
        """Start it, and wait until its sshd listens."""
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        words = ["ip", "netns", "exec", self._wire, *words, "sh", "-c", self._script()]
        log = self.place / "console.log"
        before = _listening(log)
        with log.open("ab") as out:
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        until = time.monotonic() + _UP_S
        while _listening(log) <= before:
            if self._process.poll() is not None or time.monotonic() > until:
                self.pull_the_plug()
                raise RuntimeError(f"the board does not come up: {log.read_text(errors='replace')[-800:]}")
            time.sleep(0.1)
        self.pid = _child(self._process.pid)

    def pull_the_plug(self) -> None:
        """Kill everything on it, at once: with its first process the kernel ends all others of its namespace."""
        if self._process is not None:
            for pid in (self.pid, self._process.pid):
                if pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            self._process.wait(30)
        self._process, self.pid = None, 0

    def forget(self) -> None:
        """Take a fresh disk. Only while it is off."""
        shutil.rmtree(self.place / "disk", ignore_errors=True)

    def _script(self) -> str:
        place = self.place.resolve()
        root, disk, up = place / "root", place / "disk", place / "mnt"
        for folder in (disk / "upper", disk / "work", up):
            folder.mkdir(parents=True, exist_ok=True)
        return " && ".join(
            [
                f"mount -t overlay overlay -o lowerdir={root},upperdir={disk}/upper,workdir={disk}/work {up}",
                f"mount --rbind /dev {up}/dev",
                f"mount -t proc proc {up}/proc",
                f"mount --bind {up}/etc/cpuinfo-{CPU} {up}/proc/cpuinfo",
                f"mount -t tmpfs -o mode=755 tmpfs {up}/run",
                f"mkdir -p {up}/run/sshd {up}/run/lock",
                f"exec env -i QEMU_CPU={CPU} PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "
                f"chroot {up} /usr/sbin/sshd -D -e -f /etc/ssh/sshd_config",
            ]
        )


def make_board(place: Path, suite: str = "bookworm") -> EmulatedBoard:
    """Make a board's folder, unless it is there.

    Args:
        place: For it.
        suite: ``bookworm`` or ``trixie``.
    """
    register()
    place = place.resolve()
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "root").exists():
        fresh = place / "making"
        shutil.rmtree(fresh, ignore_errors=True)
        make(suite, fresh, [*(name for name in PACKAGES if name not in LESS), *MORE])
        fresh.rename(place / "root")
    if not (place / "made").exists():
        _furnish(place)
        (place / "made").touch()
    return EmulatedBoard(place)


def _furnish(place: Path) -> None:
    """What the packages' own scripts would have written, and who may log in."""
    root, key = place / "root", place / "id"
    etc = root / "etc"
    for path in (key, etc / "ssh/host_key"):
        if not path.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    (root / "root/.ssh/authorized_keys").write_text(key.with_suffix(".pub").read_text())
    (etc / "ssh/sshd_config").write_text(_SSHD)
    passwd = etc / "passwd"
    if "sshd:" not in passwd.read_text():
        with passwd.open("a") as file:
            file.write("sshd:x:103:65534::/run/sshd:/usr/sbin/nologin\n")
    # Debian's own passwd.master locks nobody in: root's field is '*' there.
    names = [line.partition(":")[0] for line in passwd.read_text().splitlines()]
    (etc / "shadow").write_text("".join(f"{name}:*:19000:0:99999:7:::\n" for name in names))
    (etc / "shadow").chmod(0o640)
    (etc / "gshadow").touch(mode=0o640)
    groups = (etc / "group").read_text()
    (etc / "group").write_text(groups + ("" if "render:" in groups else "render:x:105:\n"))
    (etc / "nsswitch.conf").write_text("passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
    (etc / "hostname").write_text("porch\n")
    (etc / "hosts").write_text("127.0.0.1 localhost\n127.0.1.1 porch\n")
    for name, module in _PAM.items():
        (etc / "pam.d" / f"common-{name}").write_text(f"{name} required {module}\n")
    for folder in ("var/cache", "var/lib", "var/log", "opt", "run", "home"):
        (root / folder).mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def emulated_board(place: Path, suite: str = "bookworm", *, fresh: bool = True) -> Iterator[EmulatedBoard]:
    """A board that is on.

    Args:
        place: Its folder; made if need be.
        suite: See `make_board`.
        fresh: Whether its disk is as Debian made it.
    """
    board = make_board(place, suite)
    if fresh:
        board.forget()
    board.connect()
    try:
        board.power_on()
        yield board
    finally:
        board.pull_the_plug()
        board.disconnect()


def _addresses() -> str:
    return subprocess.run(["ip", "-o", "addr"], capture_output=True, text=True, check=True).stdout


def _listening(log: Path) -> int:
    return log.read_bytes().count(b"Server listening on 0.0.0.0") if log.exists() else 0


def _child(pid: int) -> int:
    # `ip netns exec` becomes unshare, whose child is the board's first process.
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("make", "up"))
    parser.add_argument("place", type=Path)
    parser.add_argument("--suite", default="bookworm", choices=("bookworm", "trixie"))
    parser.add_argument("--keep", action="store_true", help="keep what was written to its disk before")
    args = parser.parse_args()
    if os.geteuid():
        sys.exit("this needs root: it mounts, and makes a network namespace")
    if args.verb == "make":
        print(make_board(args.place, args.suite).place)
        return 0
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with emulated_board(args.place, args.suite, fresh=not args.keep) as board:
        print(f"on: edgekit flash BUNDLE {board.target}   # let in by: ssh-add {board.key}", flush=True)
        print(f"    a broker must listen on {board.host}; Ctrl-C pulls the plug", flush=True)
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
