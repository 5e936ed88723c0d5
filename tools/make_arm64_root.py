"""Make a folder that is a Debian for arm64, and run commands in it under emulation: ``make``, then ``run``.

    python tools/make_arm64_root.py make bookworm build/arm64/bookworm
    python tools/make_arm64_root.py run build/arm64/bookworm --cpu cortex-a72 -- python3 -c 'print(1)'

Packages come from Debian's signed archive through apt and are unpacked, not configured: half a minute instead of the
many that configuring four hundred packages takes under emulation, and enough for Python, numpy, OpenCV and gcc. Needs
root, and: apt install qemu-user-static
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# As one would write it after `apt install`.
PACKAGES = """
    base-files base-passwd bash coreutils dash libc-bin findutils grep sed procps util-linux gcc libc6-dev
    python3 python3-venv python3-pip ca-certificates python3-numpy python3-opencv
""".split()  # noqa: SIM905
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"
EMULATOR = Path("/usr/bin/qemu-aarch64-static")
BINFMT = Path("/proc/sys/fs/binfmt_misc")
_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
# Debian 12 and 13 are merged: these are links, and a package that still ships /lib/x must land in /usr/lib/x.
_MERGED = ("bin", "sbin", "lib")
# The parts of Linux's /proc/cpuinfo that programs read, as the Cortex-A72 and the Cortex-A76 identify themselves.
_PARTS = {"cortex-a72": ("0xd08", "3"), "cortex-a76": ("0xd0b", "1")}
_FEATURES = {
    "cortex-a72": "fp asimd evtstrm crc32 cpuid",
    "cortex-a76": "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
}
_CORES = 4


def make(suite: str, root: Path, packages: Sequence[str] = PACKAGES) -> None:
    """Download and unpack.

    Args:
        suite: ``bookworm`` or ``trixie``.
        root: Made new.
        packages: Debian packages; what they depend on comes with them, what they recommend does not.
    """
    if root.exists():
        sys.exit(f"{root} is there already; remove it first")
    root = root.absolute()  # apt takes a relative folder as one of its own.
    apt = root.with_name(root.name + "-apt")
    for folder in ("lists/partial", "cache/archives/partial"):
        (apt / folder).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {suite} main\n")
    options = {
        "APT::Architecture": "arm64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Dir::State::Lists": str(apt / "lists"),
        "Dir::State::status": str(apt / "status"),
        "Dir::Cache": str(apt / "cache"),
        "Dir::Etc::SourceList": str(apt / "sources.list"),
        "Dir::Etc::SourceParts": "/dev/null",
    }
    words = [
        "apt-get",
        "-qq",
        *(f"-o{name}={value}" for name, value in options.items()),
        "-oAPT::Architectures::=arm64",
    ]
    subprocess.run([*words, "update"], check=True)
    subprocess.run([*words, "install", "-y", "--download-only", *packages], check=True, stdout=subprocess.DEVNULL)
    root.mkdir(parents=True)
    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(f"usr/{name}")
    archives = sorted((apt / "cache" / "archives").glob("*.deb"))
    for archive in archives:
        tar = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", root], stdin=tar.stdout, check=True)
        if tar.wait():
            sys.exit(f"{archive} cannot be unpacked")
    _configure(root)
    compile_python(root)
    shutil.rmtree(apt)
    print(f"{root}: Debian {suite}, arm64, {len(archives)} packages unpacked")


def _configure(root: Path) -> None:
    """What the packages' own scripts would have done and Python needs."""
    for name in ("dev", "proc", "sys", "tmp", "run", "root"):
        (root / name).mkdir(exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for name in ("passwd", "group"):
        shutil.copy(root / "usr/share/base-passwd" / f"{name}.master", root / "etc" / name)
    # Debian 13's pip opens the bundle of certificates even where it fetches nothing.
    certificates = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    (root / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
    (root / "etc/ssl/certs/ca-certificates.crt").write_text("".join(path.read_text() for path in certificates))
    library = root / "usr/lib/aarch64-linux-gnu"
    for name in ("libblas.so.3", "liblapack.so.3"):
        folder = library / name.split(".")[0].removeprefix("lib")
        if (folder / name).exists() and not (library / name).exists():
            (library / name).symlink_to(f"{folder.name}/{name}")
    cpu = root / "sys/devices/system/cpu"
    cpu.mkdir(parents=True, exist_ok=True)
    for name, text in (("possible", f"0-{_CORES - 1}"), ("present", f"0-{_CORES - 1}"), ("kernel_max", "255")):
        (cpu / name).write_text(text + "\n")
    for name in _PARTS:
        (root / f"etc/cpuinfo-{name}").write_text(cpuinfo(name))


def compile_python(root: Path) -> None:
    """Byte code of Debian's modules, as its packages' scripts leave it: without, each start compiles what it imports.

    By this interpreter where the root has the same version (seconds), else by the root's own.
    """
    folders = sorted((root / "usr/lib").glob("python3*"))
    versions = [folder.name.removeprefix("python") for folder in folders if "." in folder.name]
    words = ["-m", "compileall", "-q"]
    if versions == [f"{sys.version_info.major}.{sys.version_info.minor}"]:
        # Some modules of Debian's are Python 2's or templates: what does not compile is left.
        subprocess.run([sys.executable, *words, "-s", root, "-p", "/", *folders], stdout=subprocess.DEVNULL)
    elif versions:
        register()
        there = [f"/{folder.relative_to(root)}" for folder in folders]
        subprocess.run(inside(root, ["python3", *words, *there], next(iter(_PARTS))), stdout=subprocess.DEVNULL)


def cpuinfo(cpu: str) -> str:
    """``/proc/cpuinfo`` of four such cores: without it XNNPACK's detection fails and it switches itself off."""
    part, variant = _PARTS[cpu]
    core = (
        f"BogoMIPS\t: 108.00\nFeatures\t: {_FEATURES[cpu]}\nCPU implementer\t: 0x41\nCPU architecture: 8\n"
        f"CPU variant\t: 0x{variant}\nCPU part\t: {part}\nCPU revision\t: 1\n"
    )
    return "\n".join(f"processor\t: {n}\n{core}" for n in range(_CORES))


def register() -> None:
    """Tell the kernel to run arm64 programs by the emulator, opened now so that it works inside any root (flag F)."""
    if not EMULATOR.exists():
        sys.exit(f"{EMULATOR} is missing: apt install qemu-user-static")
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], check=True)
    if not any("aarch64" in entry.name for entry in BINFMT.iterdir()):
        (BINFMT / "register").write_text(f":qemu-aarch64:M::{_MAGIC}:{_MASK}:{EMULATOR}:F")


def inside(root: Path, command: Sequence[str], cpu: str, binds: Sequence[tuple[Path, str]] = ()) -> list[str]:
    """The words that run a command in a root.

    Every mount is made in a namespace of its own and is gone with the command. The machine's /sys is not shown: the
    interpreter's processor detection crashes on another architecture's.

    Args:
        root: As `make` made it.
        command: What to run there.
        cpu: ``cortex-a72`` (Raspberry Pi 4) or ``cortex-a76`` (Raspberry Pi 5).
        binds: (folder of this machine, place in the root).
    """
    steps = [f"mount --rbind /dev {root}/dev", f"mount -t proc proc {root}/proc"]
    steps.append(f"mount --bind {root}/etc/cpuinfo-{cpu} {root}/proc/cpuinfo")
    for here, there in binds:
        (root / there.lstrip("/")).mkdir(parents=True, exist_ok=True)
        steps.append(f"mount --bind {here.resolve()} {root}{there}")
    script = " && ".join([*steps, f'exec chroot {root} "$@"'])
    environment = [
        "env", "-i", f"QEMU_CPU={cpu}", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME=/root", "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1", "PYTHONHASHSEED=0",
    ]  # fmt: skip
    return [*environment, "unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh", *command]


def main() -> int:
    """Entry point; the exit code of ``run`` is the command's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    made = verbs.add_parser("make")
    made.add_argument("suite", choices=("bookworm", "trixie"))
    made.add_argument("root", type=Path)
    run = verbs.add_parser("run")
    run.add_argument("root", type=Path)
    run.add_argument("--cpu", default="cortex-a72", choices=tuple(_PARTS))
    run.add_argument("--bind", action="append", default=[], metavar="HERE:THERE")
    words = sys.argv[1:]
    at = words.index("--") if "--" in words else len(words)
    args, command = parser.parse_args(words[:at]), words[at + 1 :]
    if os.geteuid():
        sys.exit("this needs root: it mounts and changes its root folder")
    if args.verb == "make":
        make(args.suite, args.root)
        return 0
    register()
    pairs = [bind.split(":", 1) for bind in args.bind]
    whole = inside(args.root.resolve(), command, args.cpu, [(Path(here), there) for here, there in pairs])
    return subprocess.run(whole).returncode


if __name__ == "__main__":
    sys.exit(main())
