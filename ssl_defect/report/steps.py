"""What to do next: each line rests on records of this run, and stands only where they say so."""

from __future__ import annotations

import math
from collections.abc import Callable

from markupsafe import Markup

from ssl_defect.data.records import GOOD
from ssl_defect.report import cuts
from ssl_defect.report.advice import FEW, WIDE, mixed_labels
from ssl_defect.report.audit import telling
from ssl_defect.report.endings import Ending, ending
from ssl_defect.report.mistakes import doubts
from ssl_defect.report.numbers import counted, hooked, interval, listed, share, shown
from ssl_defect.report.records import Prediction, RunRecords
from ssl_defect.report.weakest import weakest

NAMED = 3  # suspected label errors named with a link; the gallery has the others
EARLY = 0.5  # of the training: a best validation before it is early
CHANCE = 0.5  # AUROC
WORSE = -0.01  # change of the probe from which pretraining is said to have harmed, as in the verdict
FALLEN = 0.02  # of the validation metric after its best

NONE = Markup("")


def next_steps(records: RunRecords) -> list[Markup]:
    """What would help, from the records alone: first what the figures themselves hang on, then the dearest mistakes."""
    return [step for step in (ask(records) for ask in STEPS) if step]


def _leak(records: RunRecords) -> Markup:
    leaked = (records.audit.get("leak") or {}).get("this_split_share")
    if not leaked:
        return NONE
    official = records.metrics["protocol"]["name"] == "official"
    return Markup(
        "Before all else split by group (<code>{}</code>), so that no near-copy of a test image is trained on: "
        '<a href="#data">{} of the test images</a> have one in training.'
    ).format("data.protocol: supervised" if official else "data.split: group", share(leaked))


def _light(records: RunRecords) -> Markup:
    if not (names := telling(records.audit.get("shortcuts") or {})):
        return NONE
    text = 'Take good and defective parts under the same light: {} alone {} them apart (<a href="#data">Data</a>).'
    return Markup(text).format(listed(names), "tells" if len(names) == 1 else "tell")


def _pretraining(records: RunRecords) -> Markup:
    facts, probe = records.pretrain, records.pretrain.get("probe") or {}
    before, after = probe.get("before"), probe.get("after")
    if not facts.get("epochs") or before is None or after is None or after - before > WORSE:
        return NONE
    return Markup(
        'Compare with a run without this pretraining (<code>pretrain.method=none</code>): <a href="#learning">{}</a> '
        "fell from {} to {}."
    ).format(probe.get("metric", "the probe"), shown(before, 2), shown(after, 2))


def _decoder(records: RunRecords) -> Markup:
    """Pretraining made more than an encoder, and fine-tuning could not begin with it."""
    if not (why := records.finetune.get("left_behind")):
        return NONE
    return Markup("Fine-tune from all that pretraining made: {}.").format(why)


def _relabel(records: RunRecords) -> Markup:
    """Mistakes that are sure, and test images whose near-copies disagree; of a detector that guesses none is sure."""
    low = records.metrics["image"]["auroc"]["low"]
    doubted = doubts(records) if low is not None and low > CHANCE else {}
    rows = [one for one in records.predictions if one.row in doubted]
    if not rows:
        return NONE
    rows.sort(key=lambda one: (one.correct, -len(doubted[one.row]), -_distance(one, records), one.row))
    links = [Markup('<a href="#image-{}">{}</a>').format(one.row, one.image) for one in rows[:NAMED]]
    rest = f", and {len(rows) - NAMED:,} more that the gallery marks" if len(rows) > NAMED else ""
    return Markup(
        "Check the {} of {}: {}{}. Each is a mistake past nine in ten of the other side, or has near-copies labelled "
        "otherwise."
    ).format(
        "label" if len(rows) == 1 else "labels",
        counted(len(rows), "test image"),
        Markup(", ").join(links),
        rest,
    )


def _distance(one: Prediction, records: RunRecords) -> float:
    level = records.metrics["threshold"]["value"]
    return abs(one.score - (0.5 if level is None else level))


def _settle(records: RunRecords) -> Markup:
    if not (mixed := mixed_labels(records)):
        return NONE
    text = 'Settle the labels of {} of near-copies that disagree (<a href="#data">listed below</a>).'
    return Markup(text).format(counted(len(mixed), "group"))


def _threshold(records: RunRecords) -> Markup:
    """What validation foretold of the threshold against what test images say of it, each by an interval."""
    return _foretold(records) or _misplaced(records)


def _foretold(records: RunRecords) -> Markup:
    told, cells = records.metrics["threshold"].get("false_alarms"), records.metrics["image"]["confusion"]
    good = cells["fp"] + cells["tn"]
    if not told or not good:
        return NONE
    low, high = wilson(cells["fp"], good)
    if low <= told["high"] and told["low"] <= high:
        return NONE
    return Markup(
        "Take newer good parts for choosing the threshold: {} of the good test images are called defective, where "
        "validation foretold {} to {}."
    ).format(share(cells["fp"] / good), share(told["low"]), share(told["high"]))


def wilson(count: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Interval of a share, 95% with z = 1.96 (Wilson, JASA 1927); images are taken for independent."""
    part, weight = count / of, z * z / of
    middle, half = part + weight / 2, z * math.sqrt(part * (1 - part) / of + weight / (4 * of))
    return (middle - half) / (1 + weight), (middle + half) / (1 + weight)


def _misplaced(records: RunRecords) -> Markup:
    f1, level = records.metrics["image"]["f1"], records.metrics["threshold"]["value"]
    test = cuts.sides(records.predictions)
    if level is None or f1["high"] is None or not test.both:
        return NONE
    best = cuts.measured("", cuts.best_f1(test, test.share), "test", test)
    if best.f1 <= f1["high"]:
        return NONE
    held = sum(one.label for one in records.validation)
    return Markup(
        'Try <a href="#operating">other thresholds</a> on new images: that of validation ({}) has F1 {} ({}), and {} '
        "would have {}, though chosen on the test images and so flattered. Validation holds {}."
    ).format(
        shown(level, 3),
        hooked("image.f1.value", f1["value"], shown(f1["value"], 2)),
        interval("image.f1", f1, 2),
        shown(best.threshold, 3),
        shown(best.f1, 2),
        counted(held, "defective image"),
    )


def _training(records: RunRecords) -> Markup:
    """Whether training should have ended earlier, or later."""
    facts = records.finetune
    rows = [row for row in records.finetune_history if row.get("validation") is not None and row.get("step")]
    if len(rows) < 2 or facts.get("best_step") is None:
        return NONE
    best, last = float(facts["best_step"]), rows[-1]
    settings = records.recipe.finetune
    how = ending(facts, settings.batch_size)
    if how == Ending.BEST_LAST:
        text = "Train longer: validation was still best at the last look (finetune.steps is {})."
        return Markup(text).format(settings.steps)
    if how == Ending.BEFORE_A_PASS:
        return Markup(
            "Be more patient: training was stopped at step {}, after {} images drawn where {} are labelled "
            "(finetune.patience is {}, finetune.eval_every {})."
        ).format(
            facts["steps"],
            f"{facts['steps'] * settings.batch_size:,}",
            f"{sum(facts['labels'].values()):,}",
            settings.patience,
            settings.eval_every,
        )
    return _overfitted(rows, best, last)


def _overfitted(rows: list[dict[str, float | None]], best: float, last: dict[str, float | None]) -> Markup:
    top = next((row for row in rows if row["step"] == best), None)
    if top is None or best > EARLY * (last["step"] or 0):
        return NONE
    highest, final = top["validation"] or 0.0, last["validation"] or 0.0
    before, after = top.get("loss"), last.get("loss")
    if highest - final < FALLEN or before is None or after is None or after >= before:
        return NONE
    return Markup(
        'Guard against overfitting (more labels, stronger augmentation): <a href="#learning">validation</a> fell from '
        "{} at step {} to {} at step {}, while the training loss went on from {} to {}."
    ).format(*(f"{value:.3g}" for value in (highest, best, final, last["step"], before, after)))


def _groups(records: RunRecords) -> Markup:
    """More to test on: an interval narrows with the root of the groups, so half of it takes four times as many."""
    auroc, counts = records.metrics["image"]["auroc"], records.metrics["counts"]
    if auroc["low"] is None or auroc["high"] - auroc["low"] <= WIDE:
        few = counts["defective"] < FEW
        return Markup("Collect more defective parts for the test set: they narrow the intervals most.") if few else NONE
    groups = counts["groups"]
    return Markup(
        "Test on more parts: AUROC is known to {} only, from {} ({}). Half of that takes about four times as "
        "many, {} groups, and defective ones narrow it most."
    ).format(
        shown(auroc["high"] - auroc["low"], 2),
        counted(groups, "independent group"),
        counted(counts["defective"], "defective image"),
        f"{4 * groups:,}",
    )


def _masks(records: RunRecords) -> Markup:
    empty = records.audit.get("empty_masks") or []
    if not empty or not records.metrics.get("pixel"):
        return NONE
    text = 'Draw the {} of {} whose mask is empty (<a href="#data">listed below</a>).'
    return Markup(text).format("defect" if len(empty) == 1 else "defects", counted(len(empty), "defective picture"))


def _budget(records: RunRecords) -> Markup:
    """One run does not say what more labels are worth; what would say it."""
    budget, labels = records.recipe.finetune.labels_per_class, records.finetune.get("labels") or {}
    there = records.audit["splits"].get("train") or {}
    if not budget or not any(there.get(name, 0) > used for name, used in labels.items() if name != GOOD):
        return NONE
    return Markup(
        "To see what more labels are worth, run this recipe with <code>finetune.labels_per_class={}</code> and set "
        "both side by side (<code>ssl-defect compare</code>): one run cannot tell."
    ).format(2 * budget)


STEPS: tuple[Callable[[RunRecords], Markup], ...] = (
    _leak,
    _light,
    _pretraining,
    _decoder,
    _relabel,
    _settle,
    weakest,
    _threshold,
    _training,
    _groups,
    _masks,
    _budget,
)
