"""docs/results/prune.md: one net made smaller in several ways, each judged on the same photos of solar cells.

    python -m tools.run_benches --only prune --base build/bench-train --rows structured-50-distilled   # a row at a time
    python -m tools.run_benches --only prune --base build/bench-train --rows count,page    # instructions, and the page

Rows: KIND-SHARE, KIND-SHARE-distilled, KIND-SHARE-distilled-qat for weight-50, 75, 90 (share of weights that are zero)
and structured-75, 50, 25 (share of multiply-adds that is left); the controls random-50 (the same three) and narrow-50;
untrained-WAY (half of the multiply-adds, nothing learnt after it); kernels, count, page. BASE is the train bench's
folder, whose row `float` is what is pruned. A row that was cut short goes on from its last epoch. The page keeps its
figures beside it in prune.json; rows of the same net that stand there need not be measured again. --quick runs the
same rows with small nets on digits: they prove the way, not the figures.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.benches import prune_kernels
from tools.benches import train as base_bench
from tools.benches.prune_page import write_page
from tools.results import RESULTS, ROOT

SHARES = {"weight": (50, 75, 90), "structured": (75, 50, 25), "random": (50,)}
ENDINGS = ("", "-distilled", "-distilled-qat")
BASES = ("float", "ptq", "qat")
ROWS = (
    *BASES,
    *(f"{kind}-{share}{end}" for kind, shares in SHARES.items() for share in shares for end in ENDINGS),
    "narrow-50",
)
UNTRAINED = tuple(f"untrained-{way}" for way in ("taylor", "magnitude", "bn", "activation", "random"))
PARTS = ("kernels", "count", "page")
_FRAMES = (1, 6)


@dataclass(frozen=True)
class Plan:
    """Sizes of the rows.

    Attributes:
        structured: Arguments of the pass, but for budget and teacher.
        weight: The same.
        epochs: Share in per cent -> epochs of its fine-tuning.
        distil: Arguments of following the net as it was.
        qat: Arguments of the pass.
        narrow: recipe.toml of the narrower net.
    """

    structured: str
    weight: str
    epochs: dict[str, int]
    distil: str
    qat: str
    narrow: dict[str, float]


FULL = Plan(
    # Sixteens, because kernels for AVX-512 work in them (the page's table of channels).
    "by=taylor,per=ms,round=16,floor=0.4,steps=2,pictures=512,rate=0.0002,batch=16",
    "scope=global,rate=0.0002,batch=16",
    {"structured-75": 4, "structured-50": 6, "structured-25": 8, "random-50": 6, "weight": 2},
    "alpha=0.7,temperature=3,views=2",
    "epochs=1,rate=0.00005,batch=16",
    # Half of lite0's multiply-adds at two classes: 191 of 384 million.
    {"width": 0.625, "depth": 1.0, "resolution": 224},
)
QUICK = Plan(
    "by=taylor,round=2,floor=0.1,steps=2,pictures=64,rate=0.003",
    "scope=global,rate=0.003",
    {"structured-75": 2, "structured-50": 2, "structured-25": 2, "random-50": 2, "weight": 2},
    "alpha=0.5,temperature=3,views=1",
    "epochs=1,views=1",
    {"width": 0.2, "depth": 0.3, "resolution": 32},
)


def run(arguments: Sequence[str]) -> None:
    """Run rows and write the page."""
    parser = argparse.ArgumentParser(prog="run_benches.py --only prune", description=__doc__)
    parser.add_argument("--rows", default=",".join((*ROWS, *UNTRAINED, *PARTS)))
    parser.add_argument("--base", type=Path, help="the train bench's folder (default: build/bench-train)")
    parser.add_argument("--work", type=Path, help="runs and results (default: build/bench-prune)")
    parser.add_argument("--quick", action="store_true", help="small nets on digits, seconds instead of hours")
    parser.add_argument("--page", type=Path, help="where to write it (default: docs/results/prune.md, or WORK)")
    args = parser.parse_args(arguments)
    work = args.work or ROOT / "build" / ("bench-prune-quick" if args.quick else "bench-prune")
    work.mkdir(parents=True, exist_ok=True)
    if args.quick:
        world = World(work, args.base or work / "base", base_bench._digits(work), QUICK)
    else:
        world = World(work, args.base or ROOT / "build" / "bench-train", base_bench._cells(work), FULL)
    for row in args.rows.split(","):
        if row == "page":
            page = args.page or (work / "prune.md" if args.quick else RESULTS / "prune.md")
            page.write_text(write_page(world, ROWS, UNTRAINED, kept=page.with_suffix(".json")), "utf-8")
            print(f"{page} written", flush=True)
        elif row == "count":
            count(world)
        elif row == "kernels":
            prune_kernels.measure(work)
            prune_kernels.sparse(work)
        elif row in (*ROWS, *UNTRAINED):
            world.measure(row)
        else:
            parser.error(f"no row is called {row}; known: {', '.join((*ROWS, *UNTRAINED, *PARTS))}")


class World:
    """Where the rows are, and what they begin with.

    Attributes:
        work: Runs and results of this bench.
        base: Those of the train bench.
        data: The pictures.
        plan: Sizes.
    """

    def __init__(self, work: Path, base: Path, data: Path, plan: Plan) -> None:
        self.work, self.base, self.data, self.plan = work, base, data, plan

    @property
    def full(self) -> bool:
        """Whether its figures are meant for the page of the project."""
        return self.plan is FULL

    def measure(self, row: str) -> None:
        """One row: train what it needs, convert, judge on what was held out."""
        from edgekit import convert, evaluate

        folder, minutes = self._run(row)
        if folder is None:
            return
        model = self.work / f"{row}.tflite"
        convert(folder, out=model, scheme="float32" if row == "float" else "int8")
        against = self._float_model() if row != "float" else None
        processes = None if self.full else 1
        judged = evaluate(model, folder, against=against, processes=processes)
        data = model.read_bytes()
        found = {
            "top1": judged.top1,
            "top1_interval": list(judged.top1_interval),
            "n": judged.n,
            "drop": asdict(judged.drop) if judged.drop else None,
            "bytes": len(data),
            "zip_bytes": len(zlib.compress(data, 9)),
            # None of a run that was cut short: it counts in its own facts what came after that.
            "minutes": minutes,
            **_counts(folder),
            "how": self.how(row),
        }
        (self.work / f"{row}.row.json").write_text(json.dumps(found, default=str), "utf-8")
        spent = "cut short" if minutes is None else f"{minutes:.1f} min"
        print(f"{row}: {100 * judged.top1:.2f} % of {judged.n}, {spent}", flush=True)

    def rows(self) -> dict[str, Any]:
        """What has been measured here."""
        places = {row: self.work / f"{row}.row.json" for row in (*ROWS, *UNTRAINED)}
        return {row: json.loads(place.read_text("utf-8")) for row, place in places.items() if place.is_file()}

    def _float_model(self) -> Path:
        model = self.work / "float.tflite"
        if not model.is_file():
            self.measure("float")
        return model

    def _run(self, row: str) -> tuple[Path | None, float | None]:
        """(the run of a row, minutes that it took in one go), made or gone on with."""
        from edgekit import compress, train
        from edgekit.runs import read_toml

        base, plan, progress = self._base(), self.plan, base_bench._talk(row)
        if row in ("float", "ptq"):
            return base, 0.0
        if row == "qat":
            there = self.base / "qat"
            if (there / "RUN.json").is_file():
                return there, 0.0
            print(f"{row}: not in {self.base}; run the train bench's row qat for it", flush=True)
            return None, 0.0
        if row == "narrow-50":
            recipe = self.work / "variants" / "narrow" / "recipe.toml"
            recipe.parent.mkdir(parents=True, exist_ok=True)
            lines = [f"{key} = {value}" for key, value in plan.narrow.items()]
            recipe.write_text("\n".join(["[architecture]", *lines, ""]), "utf-8")
            # As long as the others in all: the epochs of `float` and those of the fine-tuning.
            asked = read_toml(base / "recipe.toml")["training"]
            options = {**_train_plan(self).options, "epochs": asked["epochs"] + plan.epochs["structured-50"]}
            options |= {key: asked[key] for key in ("batch", "augment", "held_out", "monitor", "balanced")}
            options["rate"] = None  # Random weights take larger steps than the small ones that suit ImageNet's.
            made = train(
                self.data, variant=str(recipe), weights="random", out=self.work / row, progress=progress, **options
            )
        elif row.endswith("-qat"):
            before = row.removesuffix("-qat")
            source, spent = self._run(before)
            step = f"qat={plan.qat}"
            made = compress(source or base, data=self.data, passes=[step], out=self.work / row, progress=progress)
            minutes = _minutes(made)
            return made.folder, None if spent is None or minutes is None else spent + minutes
        else:
            step = self.step(row)
            made = compress(base, data=self.data, passes=[step], out=self.work / row, progress=progress)
        return made.folder, _minutes(made)

    def how(self, row: str) -> str:
        """What is done to the base net for a row: rows that differ in it are not the same row."""
        if row in BASES:
            return ""
        if row == "narrow-50":
            return f"{self.plan.narrow}, {self.plan.epochs['structured-50']} epochs more"
        first = self.step(row.removesuffix("-qat"))
        return f"{first} qat={self.plan.qat}" if row.endswith("-qat") else first

    def step(self, row: str) -> str:
        """The pass of a row."""
        kind, share, *end = row.split("-")
        plan = self.plan
        if kind == "untrained":
            how = plan.structured.replace("by=taylor", f"by={share}")
            return f"prune=structured:macs=0.5,{how},epochs=0,teacher=none"
        part = int(share) / 100
        epochs = plan.epochs.get(f"{kind}-{share}") or plan.epochs[kind]
        follow = f"teacher=self,{plan.distil}" if end else "teacher=none"
        if kind == "weight":
            return f"prune=weights:sparsity={part:g},{plan.weight},epochs={epochs},{follow}"
        how = plan.structured if kind == "structured" else plan.structured.replace("by=taylor", "by=random")
        return f"prune=structured:macs={part:g},{how},epochs={epochs},{follow}"

    def _base(self) -> Path:
        """The run that is pruned."""
        there = self.base / "float"
        if not (there / "RUN.json").is_file():
            if self.full:
                what = f"python -m tools.run_benches --only train --rows float --work {self.base}"
                raise SystemExit(f"{there} is not there; make it with: {what}")
            self.base.mkdir(parents=True, exist_ok=True)
            base_bench.measure("float", self.base, self.data, _train_plan(self))
        return there


def _train_plan(world: World) -> base_bench.Plan:
    return base_bench.FULL if world.full else base_bench._quick(world.work)


def _minutes(made: Any) -> float | None:
    minutes, whole = base_bench.taught_minutes(made)
    return minutes if whole else None


def _counts(folder: Path) -> dict[str, int]:
    """Multiply-adds, parameters and weights that are zero, of a run's model."""
    from edgekit.compression.sizes import size_facts
    from edgekit.zoo import load_keras

    facts = size_facts(load_keras(str(folder / "model.keras")))
    return {key: facts[key] for key in ("macs", "parameters", "zeros")}


def count(world: World) -> None:
    """Instructions of one inference of every row's file, by callgrind: what a busy machine cannot change."""
    from edgekit.artefacts import sha256_of

    kept = world.work / "count.json"
    found = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    frames = Path(__file__).with_name("prune_frames.py")
    for row in world.rows():
        model = world.work / f"{row}.tflite"
        digest = sha256_of(model)
        if found.get(row, {}).get("sha256") == digest:
            continue
        few, many = (_instructions(frames, model, number) for number in _FRAMES)
        found[row] = {"sha256": digest, "instructions": (many - few) / (_FRAMES[1] - _FRAMES[0])}
        kept.write_text(json.dumps(found), "utf-8")
        print(f"{row}: {found[row]['instructions'] / 1e6:.1f} M instructions", flush=True)


def _instructions(script: Path, model: Path, frames: int) -> int:
    tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    words = [*tool, str(script), str(model), str(frames)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(re.findall(r"Collected : (\d+)", done.stderr)[-1])
