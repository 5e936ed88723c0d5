"""`edgekit inspect --weights`: the weight study as a table and a picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.artefacts import write_atomically
from edgekit.errors import UsageError
from edgekit.inputs import existing

if TYPE_CHECKING:
    from edgekit.compression.weight_study import Row

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class WeightStudy:
    """What was found.

    Attributes:
        rows: Every tensor on every grid, and the model as a whole.
        files: Table and picture.
    """

    rows: tuple[Row, ...]
    files: tuple[Path, ...]

    @property
    def whole(self) -> tuple[Row, ...]:
        """The rows of all weights together."""
        from edgekit.compression.weight_study import WHOLE

        return tuple(row for row in self.rows if row.layer == WHOLE)

    def to_json(self) -> dict[str, Any]:
        """One object."""
        return {"rows": [row.to_json() for row in self.rows], "files": [str(file) for file in self.files]}


def study(model: str | Path, *, out: str | Path, progress: Progress | None = None) -> WeightStudy:
    """Put every weight of a float model on every grid, from 2 to 8 bits.

    Args:
        model: A float .tflite.
        out: Written with the suffixes .csv, .json and .svg.
        progress: Called with ("study", done, total).

    Raises:
        UsageError: The file holds no float weights.
    """
    from edgekit.compression.weight_study import study_weights, weights_of
    from edgekit.reporting.curves import curves_svg
    from edgekit_device.infer.flatbuffer import read_model

    path, base = existing(model), Path(out)
    data = path.read_bytes()
    weights = weights_of(data, read_model(data, str(path)))
    if not weights:
        raise UsageError(f"{path}: it has no float weights; make its float twin with --scheme float32")
    rows = tuple(study_weights(weights, progress=progress))
    files = tuple(base.with_name(f"{base.name}{suffix}") for suffix in (".csv", ".json", ".svg"))
    done = WeightStudy(rows, files)
    lines = {
        f"{grid}, a {granularity}": [
            (row.bits, row.sqnr_db) for row in done.whole if (row.grid, row.granularity) == (grid, granularity)
        ]
        for grid, granularity in dict.fromkeys((row.grid, row.granularity) for row in done.whole)
    }
    write_atomically(files[0], _csv(rows).encode("utf-8"))
    write_atomically(files[1], (json.dumps([row.to_json() for row in rows]) + "\n").encode("utf-8"))
    title = f"{path.name}: what is left of the weights"
    write_atomically(files[2], curves_svg(title, "bits a weight", "SQNR, dB", lines).encode("utf-8"))
    return done


def _csv(rows: tuple[Row, ...]) -> str:
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0].to_json()), lineterminator="\n")
    table.writeheader()
    table.writerows(row.to_json() for row in rows)
    return text.getvalue()
