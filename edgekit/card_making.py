"""The verb `sdcard`: bundle, fleet and wheels put together into files for a fresh card."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgekit.enlisting import membership
from edgekit.errors import UsageError
from edgekit.flashing.errors import WheelsError
from edgekit.flashing.sdcard import SYSTEMS, Card, card_files, write_card
from edgekit.flashing.wheelhouse import load_packaging, read_wheel, wheel_folder
from edgekit_device.bundle import open_bundle, user_public_key
from edgekit_device.contract.errors import NoTrustedKeyError
from edgekit_device.contract.ids import check_id

MOST_TOKEN_HOURS = 24.0 * 14


@dataclass(frozen=True)
class Network:
    """How the board gets on the network, where that is not a cable.

    Attributes:
        name: Of the Wi-Fi.
        passphrase_file: File with its passphrase.
        country: Of the radio.
    """

    name: str
    passphrase_file: Path
    country: str


@dataclass(frozen=True)
class WrittenCard:
    """What was written.

    Attributes:
        folder: Where.
        files: Names below it.
        bytes: In all.
        board: ``SITE.DEVICE``.
        token_hours: How long the card can enrol; None without a fleet.
        boot_line: Words that must still be added to cmdline.txt; empty if none.
    """

    folder: Path
    files: tuple[str, ...]
    bytes: int
    board: str
    token_hours: float | None
    boot_line: str


def make_card(
    bundle: str | Path,
    system: str,
    out: str | Path,
    *,
    settings: Mapping[str, object],
    ssh_key: Path | None = None,
    user: str = "pi",
    network: Network | None = None,
    wheels: Path | None = None,
    public_key: Path | None = None,
    fleet: Path | None = None,
    enroll: bool = True,
    enroll_again: bool = False,
    token_hours: float = 24.0,
) -> WrittenCard:
    """Write the first-boot files of one board.

    Args:
        bundle: The ``.edgekit`` file.
        system: ``trixie`` or ``bookworm``.
        out: A folder; the card's mounted boot partition, or one to copy from.
        settings: Keys of device.toml; ``id`` is the board's name.
        ssh_key: Public key that may log in; your own by default.
        user: Who logs in.
        network: Wi-Fi; a cable needs nothing.
        wheels: Folder of wheels; the cache by default.
        public_key: The signer's; your own by default.
        fleet: Folder of the fleet; ``~/.config/edgekit/fleet`` by default.
        enroll: Put a one-time token on the card, if there is a fleet.
        enroll_again: Also under a name that is taken.
        token_hours: How long that token is good: whoever reads the card until then can join as this board.

    Raises:
        EdgeKitError: Named by its class; nothing starts from a card that was not finished.
    """
    if system not in SYSTEMS:
        raise UsageError(f"--os {system}: write one of {', '.join(SYSTEMS)}")
    if not 0 < token_hours <= MOST_TOKEN_HOURS:
        raise UsageError(f"--token-hours {token_hours:g}: up to {MOST_TOKEN_HOURS:g}; a longer one is a password")
    place = Path(out)
    if place.exists() and not place.is_dir():
        raise UsageError(f"-o {place}: files go into a folder, such as the card's mounted boot partition")
    key = public_key or user_public_key()
    if not key.is_file():
        raise NoTrustedKeyError([str(key)])
    opened, _ = open_bundle(Path(bundle), [key])
    chosen = {"site": "home", **settings}
    site, device = check_id("site", str(chosen["site"])), check_id("device", str(chosen.get("id", "")))
    joined = membership(fleet, again=enroll_again) if enroll and not chosen.get("broker") else None
    if joined is not None:
        chosen["broker"] = joined.broker
        if joined.releases is not None:
            chosen.setdefault("updates", joined.releases.url)
    folder = wheels or wheel_folder()
    if folder is None:
        python = SYSTEMS[system].python
        version = ".".join(map(str, python.version[:2])) if python else ""
        raise WheelsError(
            "the card", "there are no wheels", f"edgekit wheels fetch --python {version} --machine aarch64"
        )
    load_packaging()
    found = [read_wheel(path) for path in sorted(folder.rglob("*.whl"))]
    phrase = None
    if network is not None:
        try:
            phrase = (network.name, network.passphrase_file.read_text("utf-8").strip("\r\n"))
        except OSError as cause:
            raise UsageError(f"{network.passphrase_file}: cannot be read ({cause.strerror})") from cause
    card = Card(
        system, Path(bundle), opened, key, chosen, _public_key(ssh_key), user, "", phrase,
        network.country if network else "",
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="edgekit-card-") as scratch:
        # Without its token first: one that is made voids those before it, so nothing may fail after it.
        made = card_files(card, found, Path(scratch))
        if joined is not None and joined.releases is not None:
            made["edgekit/root.json"] = joined.releases.roots[-1]
        if joined is not None:
            made["edgekit/token"] = joined.invite(site, device, token_hours).encode() + b"\n"
    names = write_card(made, place)
    missing = made["cmdline-add.txt"].decode().strip() if "cmdline-add.txt" in made else ""
    if missing and (place / "cmdline.txt").is_file():
        missing = ""
    hours = token_hours if joined is not None else None
    return WrittenCard(place, tuple(names), sum(map(len, made.values())), f"{site}.{device}", hours, missing)


def _public_key(path: Path | None) -> str:
    tried = (
        [path] if path else [Path.home() / ".ssh" / name for name in ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")]
    )
    for one in tried:
        try:
            return one.read_text("utf-8").strip()
        except OSError:
            continue
    raise UsageError("no public key of SSH; make one: ssh-keygen -t ed25519, or name one: --ssh-key FILE")
