"""How long stages may take of which nothing is known yet: each kind is tried for a few steps on drawn pictures."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ssl_defect.artifacts import digest, read_json, read_record
from ssl_defect.config import DataSettings, Recipe
from ssl_defect.console import say
from ssl_defect.data.roots import scan_source
from ssl_defect.fingerprints import STAGES, Plan
from ssl_defect.table.expand import Run
from ssl_defect.table.planning import Job, Work, jobs_of, to_do
from ssl_defect.table.work import work_off

BATCH = 16  # drawn images of a step
GOOD, DEFECTIVE = 80, 4  # drawn images, the second of each of four kinds: half of them to train on
EPOCHS, STEPS = 2, 4
FORWARD = 1 / 3  # of the time of a training step: an image that is only looked at


@dataclass(frozen=True)
class Counts:
    """Images of a run by split, and the good ones among those to train on, as its shares have it."""

    train: float
    good: float
    val: float
    test: float


def try_stages(jobs: Sequence[Job], work: Work, limit: int) -> None:
    """Try each kind of stage that is to be made and that nothing is known of; `work` then knows what they may take.

    All in a folder that is removed, `limit` side by side as the table's own runs. What cannot be tried stays unknown.
    """
    unknown = [(job, stage) for job, stage in to_do(jobs, work).values() if work.seconds(stage) is None]
    if not unknown:
        return
    with TemporaryDirectory(prefix="ssl-defect-") as name:
        tried = _try(unknown, Path(name), limit)
        counts: dict[str, Counts] = {}
        for job, stage in unknown:
            trial, recipe = tried.get(_kind(job, stage)), job.run.recipe
            if trial is None or not trial.finished:
                continue
            key = digest(recipe.data.model_dump(mode="json"))
            if key not in counts:
                counts[key] = count(recipe)
            work.guessed[stage.fingerprint] = foretold(stage.stage, recipe, counts[key], trial.folder)


def _try(unknown: Sequence[tuple[Job, Plan]], folder: Path, limit: int) -> dict[str, Job]:
    """Kind -> the run in `folder` that tried it."""
    kinds: dict[str, dict[str, str]] = {}  # name of a run -> its stages and their kinds, none twice
    owners, seen = {job.name: job for job, _ in unknown}, set[str]()
    for job, stage in unknown:
        if (kind := _kind(job, stage)) not in seen:
            seen.add(kind)
            kinds.setdefault(job.name, {})[stage.stage] = kind
    runs = {name: _small(owners[name].run, folder) for name in kinds}
    order = list(STAGES)
    trials = {name: jobs_of([run], folder, max(kinds[name], key=order.index))[0] for name, run in runs.items()}
    say(f"{len(seen)} kinds of stages are tried on drawn pictures")
    work_off(list(trials.values()), folder, Work(), limit)
    return {kind: trials[name] for name, mine in kinds.items() for kind in mine.values()}


def _kind(job: Job, stage: Plan) -> str:
    """Stages of a kind take alike for each image; testing takes what it takes with the detector that is tested."""
    same = next(one for one in job.stages if one.stage == ("finetune" if stage.stage == "evaluate" else stage.stage))
    told = {key: value for key, value in same.settings.items() if key not in {"seed", "labels_per_class"}}
    return digest([stage.stage, {} if stage.stage == "prepare" else told, job.run.recipe.data.image_size])


def _small(run: Run, folder: Path) -> Run:
    """The same run on few drawn pictures, for few steps."""
    recipe, size = run.recipe, run.recipe.data.image_size
    drawn = {"good": GOOD, "defective": DEFECTIVE, "size": min(max(32, size), 512)}
    updates: dict[str, dict[str, Any]] = {
        "pretrain": {"epochs": EPOCHS, "batch_size": BATCH, "probe_every": EPOCHS, "snapshots": 0, "keep_every": 0},
    }
    if recipe.anomaly is None:  # else a section `finetune` would ask for a second detector
        updates["finetune"] = {"labels_per_class": None, "steps": STEPS, "batch_size": BATCH, "eval_every": STEPS}
    changed: dict[str, Any] = {
        name: getattr(recipe, name).model_copy(update=update) for name, update in updates.items()
    }
    changed["data"] = DataSettings(
        source="synthetic", root=str(folder / f"drawn-{drawn['size']}"), image_size=size, copies=False, options=drawn
    )
    return Run(run.name, run.cell, run.seed, recipe.model_copy(update=changed))


def count(recipe: Recipe) -> Counts:
    """Images by split as the recipe's shares have it: nothing is decoded, and groups are not looked for.

    Raises:
        UserError: as the source does.
    """
    data, (_, samples) = recipe.data, scan_source(recipe)
    total, good = len(samples), sum(sample.label == 0 for sample in samples)
    test = (1 / data.folds if data.folds else data.test_share) * total
    if data.protocol == "official":
        kept = [sample for sample in samples if sample.published_split != "test"]
        test, good = total - len(kept), sum(sample.label == 0 for sample in kept)
        val = data.val_share * len(kept)
        return Counts(len(kept) - val, good * (1 - data.val_share), val, test)
    val = data.val_share * total
    train = total - test - val
    return Counts(train, good * train / max(1, total), val, test)


def foretold(stage: str, recipe: Recipe, counts: Counts, trial: Path) -> float:
    """Seconds that a stage may take, fine-tuning at most: what a trial took for each image, times the images.

    Args:
        stage: its name.
        recipe: the run as it is meant.
        trial: folder of the finished run that tried it on drawn pictures.
    """
    record = read_record(trial / stage)
    took = record.seconds if record else 0.0
    if stage == "prepare":
        return took * (counts.train + counts.val + counts.test) / (GOOD + 4 * DEFECTIVE)
    if stage == "pretrain":
        return _pretraining(recipe, counts, trial / stage, took)
    told = trial / "finetune" / "finetune.json"
    learnt = read_json(told) if told.is_file() else {}
    image = learnt["seconds"] / (learnt["steps"] * BATCH) if learnt.get("steps") else 0.0
    if stage == "evaluate":
        return took + counts.test * image * FORWARD
    if not image:  # a detector from good images, or one that is not trained by steps
        return took * counts.train / (0.5 * (GOOD + 4 * DEFECTIVE))
    settings = recipe.finetune
    looks = math.ceil(settings.steps / settings.eval_every)
    images = settings.steps * settings.batch_size + looks * counts.val * FORWARD
    return took - float(learnt["seconds"]) + images * image


def _pretraining(recipe: Recipe, counts: Counts, trial: Path, took: float) -> float:
    from ssl_defect.pretrain.stage import choose, usual_batch  # torch is loaded late

    kind = choose(recipe)[0]
    if kind is None:
        return took
    with (trial / "history.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    images = int(counts.good if kind.good_only else counts.train)
    size = recipe.pretrain.batch_size or usual_batch(images)
    once = took - sum(float(row["seconds"]) for row in rows)
    return once + recipe.pretrain.epochs * (images // size * size) / float(rows[-1]["images_per_second"])
