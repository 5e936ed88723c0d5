"""Which machine is the board: its host key is pinned at first use and never replaced by itself.

One line a key in OpenSSH's own format, so that ``ssh -o UserKnownHostsFile=...`` and ``ssh-keygen -R`` read it too.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from edgekit.errors import EdgeKitError
from edgekit_device import disk


def known_hosts_path(config: Path) -> Path:
    """Where keys are pinned.

    Args:
        config: ``~/.config/edgekit``.
    """
    return config / "known_hosts"


def host_name(host: str, port: int) -> str:
    """A host as known_hosts files write it: with its port in brackets unless that is 22."""
    return host if port == 22 else f"[{host}]:{port}"


class HostKeys:
    """The pinned keys.

    Args:
        path: The file; made at the first pin.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def pinned(self, name: str) -> list[str]:
        """``TYPE BASE64`` of each key that is pinned for a host.

        Raises:
            EdgeKitError: The file cannot be read: better no flash than one to a stranger.
        """
        try:
            text = self.path.read_text("utf-8")
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as cause:
            raise EdgeKitError(f"{self.path}: cannot be read ({cause}); mend or remove it") from cause
        found = []
        for line in text.splitlines():
            words = line.split()
            if len(words) >= 3 and not line.startswith(("#", "@")) and name in words[0].split(","):
                found.append(f"{words[1]} {words[2]}")
        return found

    def pin(self, name: str, key: str) -> None:
        """Write a key down.

        Args:
            name: See `host_name`.
            key: ``TYPE BASE64``.
        """
        disk.make_folders(self.path.parent, 0o700)
        # Boards side by side, and several commands: one writer at a time, or a pin is lost.
        lock = os.open(self.path.with_name(".known_hosts.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            held = self.path.read_bytes() if self.path.exists() else b""
            if held and not held.endswith(b"\n"):
                held += b"\n"
            disk.replace_file(self.path, held + f"{name} {key}\n".encode(), 0o600)
        finally:
            os.close(lock)
