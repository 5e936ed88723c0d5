"""`edgekit compress --study`: how much each group of channels can spare, as a table and a picture; kept once made."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.artefacts import run_path, write_atomically

if TYPE_CHECKING:
    from edgekit.compression.prune_study import StudyRow
    from edgekit.origins import Origin
    from edgekit.training.lessons import Course

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class PruneStudy:
    """What was found.

    Attributes:
        rows: Each group with shares of it gone.
        files: Table and picture.
        pictures: How many it was judged on.
    """

    rows: tuple[StudyRow, ...]
    files: tuple[Path, ...]
    pictures: int

    def to_json(self) -> dict[str, Any]:
        """One object."""
        rows = [row.to_json() for row in self.rows]
        return {"rows": rows, "files": [str(file) for file in self.files], "pictures": self.pictures}


def study_pruning(
    source: str | Path,
    *,
    data: str | Path,
    out: str | Path,
    by: str = "taylor",
    pictures: int = 256,
    preprocess: str | None = None,
    labels: str | Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> PruneStudy:
    """Judge a classifier with a quarter, a half and three quarters of each group of channels at zero.

    Args:
        source: A run, a .keras file or a SavedModel.
        data: Its pictures; only those that it learnt from are looked at, never those held out.
        out: Written with the suffixes .csv, .json and .svg.
        by: What ranks channels; see the pass `prune`.
        pictures: How many at most.
        preprocess: For a model beside which nothing states it.
        labels: One a class, for a model that is no run.
        seed: Draws the pictures.
        progress: Called with (stage, done, total).

    Raises:
        EdgeKitError: Named by its class.
    """
    from edgekit.compressing import course_of
    from edgekit.compression.prune_study import StudyRow, as_cells
    from edgekit.conversion.noise import captured, load_tensorflow
    from edgekit.reporting.heatmap import heatmap_svg
    from edgekit.run_writing import weights_digest
    from edgekit.training.cache import Cache
    from edgekit.training.folders import read_gallery

    gallery = read_gallery(Path(data), labelled=False, progress=progress)
    load_tensorflow()
    cache = Cache()
    with captured():
        from edgekit.origins import find_origin

        origin = find_origin(source, "imagenet", preprocess, labels, seed)
        course = course_of(gallery, origin, run_path(str(source)), "none", cache, seed, progress)
        key = f"1;{weights_digest(origin.model)};{course.lessons.key};{by};{pictures};{seed}"

        def fill(folder: Path) -> dict[str, Any]:
            rows, count = _study(origin, course, by, pictures, seed, progress)
            return {"rows": [row.to_json() for row in rows], "pictures": count}

        _, facts = cache.folder(f"study-{hashlib.sha256(key.encode()).hexdigest()[:24]}", fill)
    rows = tuple(StudyRow(**row) for row in facts["rows"])
    title = f"{Path(str(source)).name}: what each layer can spare"
    drawn = heatmap_svg(title, f"top-1 in % of {facts['pictures']} pictures, by share gone", *as_cells(rows))
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0].to_json()))
    writer.writeheader()
    writer.writerows(row.to_json() for row in rows)
    contents = {".csv": table.getvalue(), ".json": json.dumps(facts, indent=1), ".svg": drawn}
    files = tuple(Path(f"{out}{suffix}") for suffix in contents)
    for file, text in zip(files, contents.values(), strict=True):
        write_atomically(file, text.encode())
    return PruneStudy(rows, files, int(facts["pictures"]))


def _study(
    origin: Origin, course: Course, by: str, pictures: int, seed: int, progress: Progress | None
) -> tuple[list[StudyRow], int]:
    import numpy as np

    from edgekit.compression.channel_scores import worth_of
    from edgekit.compression.channels import find_channels
    from edgekit.compression.prune_study import study_groups
    from edgekit.errors import PassError
    from edgekit.keras_network import KerasNetwork
    from edgekit.training.loop import compiled

    lessons = course.lessons
    labelled = lessons.labelled().train
    if not len(labelled):
        raise PassError("study", "no picture has a label", "put pictures into folders named by their classes")
    graph = find_channels(origin.model)
    if not graph.groups:
        raise PassError("study", "the model has no layer whose channels could go", "study one with a hidden layer")
    worth = worth_of(origin.model, graph, by, lessons, pictures=pictures, seed=seed, progress=progress)
    places = np.random.default_rng([seed, 16]).permutation(labelled)[:pictures]
    run = compiled(KerasNetwork(origin.model, origin.preprocess), lessons)
    return study_groups(origin.model, graph, worth, lessons, run, places, progress), len(places)
