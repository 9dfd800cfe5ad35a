"""What the finished runs of a cell measured, seed by seed, and paired differences between cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ssl_defect.artifacts import Record, read_json, read_record
from ssl_defect.compare.measure import TOLERANCE, families, recorded, spec_of, unvaried
from ssl_defect.compare.runs import Run
from ssl_defect.compare.seeds import parts
from ssl_defect.config import load_recipe
from ssl_defect.evaluate.bootstrap import UNVARIED, leave_out, with_interval
from ssl_defect.evaluate.metrics import WHY
from ssl_defect.evaluate.spread import p_value
from ssl_defect.report.endings import ending
from ssl_defect.report.records import read_run
from ssl_defect.table.expand import Cell
from ssl_defect.table.settings import VALIDATION

Array = npt.NDArray[np.float64]
Entry = dict[str, Any]  # {"value", "low", "high"[, "p"][, "why"]}
UNDEFINED = "undefined"
VARIOUS = "various"  # the images that runs of one cell were tested on
LOWER = ("task mae", "task rmse")  # metrics of which less is better
STAGES = ("prepare", "pretrain", "finetune", "evaluate")


@dataclass(frozen=True, eq=False)
class Measured:
    """The finished seeds of a cell.

    Attributes:
        points: metric -> (seeds,), NaN where a run left it undefined.
        without: metric -> (seeds, blocks) without each block of near-copy groups; none for a metric of the task.
        tested_on: digest of split, test images, labels and groups.
        apart: metric -> why the records kept are too coarse for a difference.
        costs: of each seed, as `compare.runs.Run.cost` has them.
        validation: (folds, seeds) best value on validation, higher is better; NaN where nothing was chosen by it.
        chosen_by: what that value measures, `pixel AP` for instance; empty where it is not the same in all runs.
        unvaried: metric -> the interval at `level` of seeds that are all 0 or all 1, as their evaluations tell it.
        facts: of each run: its split's digest, its numbers of test images and groups, its machine and versions.
    """

    cell: Cell
    seeds: list[int]
    points: dict[str, Array]
    without: dict[str, Array]
    tested_on: str
    apart: dict[str, str]
    costs: list[dict[str, float | None]]
    validation: Array
    chosen_by: str = ""
    facts: list[dict[str, Any]] = field(default_factory=list)
    unvaried: dict[str, Entry] = field(default_factory=dict)
    level: float = 0.95

    def entry(self, metric: str, level: float) -> Entry:
        """Mean over the seeds with its interval over test groups and seeds, and the seeds' standard deviation."""
        points = self.points[metric]
        mean = float(points.mean())
        sd = float(points.std(ddof=1)) if len(points) > 1 and np.isfinite(mean) else None
        if metric not in self.without:
            why = "no parts of it are kept, image by image" if np.isfinite(mean) else UNDEFINED
            value = mean if np.isfinite(mean) else None
            return {"value": value, "low": None, "high": None, "why": why, "sd": sd}
        told, why = parts(points, self.without[metric]), WHY.get(metric.split(" ")[1], "")
        found = with_interval(mean, told, level, why, share=True) | {"sd": sd}
        if mean in (0, 1) and found["low"] is not None:
            none = {"low": None, "high": None, "why": UNVARIED}
            found |= self.unvaried.get(metric, none) if level == self.level else none
        return found

    def cost(self, key: str) -> float | None:
        """Mean of a cost over the seeds that tell it."""
        known = [cost[key] for cost in self.costs]
        told = [value for value in known if value is not None]
        return float(np.mean(told)) if told else None


def measure(cell: Cell, folders: Sequence[tuple[int, Path]], metrics: Sequence[str]) -> Measured:
    """Read the finished runs of a cell, `(seed, folder)` each.

    Raises:
        UserError: a record is missing or damaged, or the seeds were tested on different images.
    """
    points: dict[str, list[float]] = {name: [] for name in metrics}
    without: dict[str, list[Array]] = {}
    runs, apart, facts = [], {}, []
    told: dict[str, list[Entry]] = {name: [] for name in metrics if name.split(" ")[0] in {"image", "pixel"}}
    for seed, folder in folders:
        run = Run(f"seed {seed}", folder, read_run(load_recipe(folder / "recipe.yaml"), folder))
        runs.append((run.tested_on, run.cost()))
        facts.append(_facts(run))
        kept = _without(run, metrics)
        for name, entries in told.items():
            entries.append(recorded(run, name))
        for name in metrics:
            points[name].append(_recorded(run, name))
            if name in kept:
                value, left_out = kept[name]
                without.setdefault(name, []).append(left_out)
                if abs(value - points[name][-1]) > TOLERANCE:
                    apart[name] = f"seed {seed}: the records kept give {value:.3f}, too coarse for a difference"
    tested_on = runs[0][0] if len({one[0] for one in runs}) == 1 else VARIOUS
    return Measured(
        cell=cell,
        seeds=[seed for seed, _ in folders],
        points={name: np.array(values) for name, values in points.items()},
        without={name: np.stack(rows) for name, rows in without.items() if len(rows) == len(folders)},
        tested_on=tested_on,
        apart=apart,
        costs=[one[1] for one in runs],
        validation=np.array([[reached(folder) for _, folder in folders]], dtype=np.float64),
        chosen_by=common([fact["chosen_by"] for fact in facts]),
        facts=facts,
        unvaried={name: ends for name, entries in told.items() if (ends := unvaried(entries))},
        level=spec_of(run).level,
    )


def common(names: Sequence[str]) -> str:
    """The name that all have, else none."""
    return names[0] if len(set(names)) == 1 else ""


def _recorded(run: Run, metric: str) -> float:
    if metric == VALIDATION:
        value = reached(run.folder)
    elif metric.startswith("task "):
        block = (run.records.metrics.get("task") or {}).get("metrics") or {}
        value = (block.get(metric.removeprefix("task ")) or {}).get("value")
    else:
        value = recorded(run, metric)["value"]
    return float("nan") if value is None else float(value)


def reached(folder: Path) -> float | None:
    """A run's best value on validation, higher is better; None for detectors from good images, which choose nothing."""
    value = read_json(folder / "finetune" / "finetune.json").get("best_validation")
    return None if value is None else float(value)


def _without(run: Run, metrics: Sequence[str]) -> dict[str, tuple[float, Array]]:
    """Value of each metric that the records kept give, and the values without each block of groups."""
    found: dict[str, tuple[float, Array]] = {}
    for level, family in families(run).items():
        wanted = [name.split(" ", 1)[1] for name in metrics if name.startswith(f"{level} ")]
        if wanted:
            values = family(np.ones((1, len(run.labels))))
            (left_out,) = leave_out([family], run.groups)
            found |= {f"{level} {name}": (float(values[name][0]), left_out[name]) for name in wanted}
    return found


def _facts(run: Run) -> dict[str, Any]:
    metrics = run.records.metrics
    records: list[Record] = [one for stage in STAGES if (one := read_record(run.folder / stage))]
    return {
        "split": metrics["protocol"]["split"],
        "split_digest": metrics["protocol"]["split_digest"],
        "counts": metrics["counts"],
        "opened": metrics["protocol"].get("test_opened"),
        "evaluation": records[-1].fingerprint if records else str(run.folder),
        "machine": records[-1].machine if records else {},
        "versions": records[-1].versions if records else {},
        "ending": ending(run.records.finetune, run.records.recipe.finetune.batch_size),
        "chosen_by": run.records.finetune.get("validation_metric") or "",
        "judges": validation_counts(run.records.audit),
    }


def validation_counts(audit: dict[str, Any]) -> dict[str, int]:
    """The validation images that an audit counts, and how many of them are defective."""
    counts = audit["splits"]["val"]
    return {"images": sum(counts.values()), "defective": sum(counts.values()) - counts.get("good", 0)}


def paired(a: Measured, b: Measured, metric: str, level: float) -> Entry:
    """`a - b` over the seeds that both have, with its interval over test groups and seeds and a two-sided p.

    p falls below 1 - level just where the interval leaves zero out.

    Value and ends are None beside a `why` where the two were not tested on the same images, or share no seed.
    """
    seeds = [seed for seed in a.seeds if seed in b.seeds]
    why = a.apart.get(metric) or b.apart.get(metric)
    if a.tested_on != b.tested_on or a.tested_on == VARIOUS:
        why = "not tested on the same images"
    elif not seeds:
        why = "no seed in common"
    elif metric != VALIDATION and (metric not in a.without or metric not in b.without):
        why = "no parts of it are kept"
    if why:
        return {"value": None, "low": None, "high": None, "p": None, "why": why}
    mine, theirs = ([one.seeds.index(seed) for seed in seeds] for one in (a, b))
    points = a.points[metric][mine] - b.points[metric][theirs]
    if metric == VALIDATION:  # for choosing, not for showing
        value = float(points.mean())
        return {"value": value if np.isfinite(value) else None, "low": None, "high": None, "p": None, "why": UNDEFINED}
    told = parts(points, a.without[metric][mine] - b.without[metric][theirs])
    value = float(points.mean())
    found = with_interval(value, told, level, WHY.get(metric.split(" ")[1], ""))
    return found | {"p": p_value(value, told) if found["low"] is not None else None}


def better(metric: str) -> float:
    """1 where more of it is better, -1 where less is."""
    return -1.0 if metric in LOWER else 1.0
