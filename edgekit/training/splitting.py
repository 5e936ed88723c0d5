"""Which pictures are learnt from and which are held out: by seed, a share of each class, clusters whole. Pure.

The order in which clusters are held out hangs on their bytes and the seed alone, so that a data set that grows keeps
most of its held-out pictures, whatever the files are called.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.errors import DatasetError

TRAIN, MONITOR, HELD_OUT, LEFT_OUT = "train", "monitor", "held_out", "left_out"
# A class with fewer pictures to learn from gives none to early stopping.
LEAST_MONITORED = 10


@dataclass(frozen=True)
class Shares:
    """How a data set is divided.

    Attributes:
        held_out: Share of each class that is judged once, when all is done.
        monitor: Share of the rest that early stopping watches.
    """

    held_out: float = 0.2
    monitor: float = 0.1


def split(
    digests: Sequence[str],
    labels: Sequence[str | None],
    clusters: Sequence[int],
    shares: Shares,
    seed: int,
    *,
    fixed: Mapping[int, str] | None = None,
) -> list[str]:
    """Divide pictures.

    Args:
        digests: SHA-256 of each.
        labels: Class of each; None is always learnt from, unless its cluster is held out.
        clusters: Pictures with the same number stay together.
        shares: How much goes where.
        seed: Draws.
        fixed: place -> role, where that is given: by split folders or an earlier run. What belongs together with a
            held-out picture is then LEFT_OUT instead of learnt from, and no others are held out.

    Returns:
        TRAIN, MONITOR, HELD_OUT or LEFT_OUT for each.

    Raises:
        DatasetError: A class would have nothing to learn from, or nothing held out.
    """
    members: dict[int, list[int]] = defaultdict(list)
    for at, cluster in enumerate(clusters):
        members[cluster].append(at)
    ranks = {cluster: min(_rank(seed, digests[at]) for at in group) for cluster, group in members.items()}
    order = sorted(members, key=lambda cluster: ranks[cluster])
    roles = [TRAIN] * len(digests)
    if fixed is not None:
        roles = [fixed.get(at, TRAIN) for at in range(len(digests))]
        for group in members.values():
            for strict, rest in ((HELD_OUT, (TRAIN, MONITOR)), (MONITOR, (TRAIN,))):
                if any(roles[at] == strict for at in group):
                    for at in group:
                        roles[at] = LEFT_OUT if roles[at] in rest else roles[at]
        _require(roles, labels, judged=False)
    else:
        _draw(order, members, labels, roles, shares.held_out, HELD_OUT, least=1)
        _require(roles, labels, judged=shares.held_out > 0)
    if MONITOR not in roles:
        _draw(order, members, labels, roles, shares.monitor, MONITOR, least=0)
    return roles


def _rank(seed: int, digest: str) -> str:
    return hashlib.sha256(f"held out:{seed}:{digest}".encode()).hexdigest()


def _draw(
    order: Sequence[int],
    members: Mapping[int, Sequence[int]],
    labels: Sequence[str | None],
    roles: list[str],
    share: float,
    role: str,
    *,
    least: int,
) -> None:
    """Move clusters from TRAIN to `role` until each class has given its share, and never a class's last cluster."""
    if share <= 0:
        return
    there = Counter(label for label, now in zip(labels, roles, strict=True) if now == TRAIN and label is not None)
    wanted = {
        label: max(least, round(share * count)) if least or count >= LEAST_MONITORED else 0
        for label, count in there.items()
    }
    taken: Counter[str] = Counter()
    small_first = sorted(order, key=lambda cluster: len(members[cluster]))
    # First in the drawn order, as far as clusters fit; then the smallest for classes that got nothing.
    for exact in (True, False):
        for cluster in order if exact else small_first:
            group = [at for at in members[cluster] if roles[at] == TRAIN]
            own = Counter(label for at in group if (label := labels[at]) is not None)
            if not own or any(there[label] - taken[label] - n < 1 for label, n in own.items()):
                continue
            fits = all(taken[label] + n <= wanted[label] for label, n in own.items())
            needed = any(wanted[label] and not taken[label] for label in own)
            if fits if exact else needed:
                taken.update(own)
                for at in group:
                    roles[at] = role


def _require(roles: Sequence[str], labels: Sequence[str | None], *, judged: bool) -> None:
    classes = Counter(label for label in labels if label is not None)
    pairs = [(label, role) for label, role in zip(labels, roles, strict=True) if label is not None]
    held = Counter(label for label, role in pairs if role == HELD_OUT)
    learnt = Counter(label for label, role in pairs if role == TRAIN)
    for label, count in sorted(classes.items()):
        pictures = f"{count} picture{'' if count == 1 else 's'}"
        if not learnt[label]:
            raise DatasetError(f"class '{label}'", f"has {pictures}, none to learn from", "add others to learn from")
        if judged and not held[label]:
            raise DatasetError(
                f"class '{label}'",
                f"has {pictures}, which count as one (a burst, or nearly the same): none can be held out",
                "add pictures of other moments, or train without a judge: --held-out 0",
            )
