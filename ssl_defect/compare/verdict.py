"""What a comparison says, in a sentence, and what to beware of."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ssl_defect.compare.measure import METRICS, Against, Entry, Measured, outside, paired, spec_of
from ssl_defect.compare.runs import Run
from ssl_defect.compare.table import ends, ordered, signed
from ssl_defect.report.endings import ending, too_short
from ssl_defect.report.numbers import counted, shown


def headlines(found: Sequence[Measured], against: Against, main: str) -> list[Markup]:
    """For each baseline that others are measured against, which of them is best, and whether the difference says so."""
    known = [one for one in ordered(found, main) if one.entries.get(main, {}).get("value") is not None]
    if not known:
        return [Markup("None of the runs can be judged: the test images hold one class only.")]
    if len(found) == 1:
        text = Markup(
            "Only <strong>{}</strong> was tested on these images ({} {}): there is nothing to compare it with."
        )
        return [text.format(known[0].arm.name, _metric_name(main), _value(known[0], main))]
    groups = [(base, [one for one in known if against.get(one) is base]) for base in found]
    return [_headline(group, base, main) for base, group in groups if any(one is not base for one in group)] or [
        Markup("No run has a baseline among the others: nothing can be said of a difference.")
    ]


def _headline(known: Sequence[Measured], baseline: Measured, main: str) -> Markup:
    """Which is best by the main metric, and whether its difference from the baseline is outside its interval."""
    name = _metric_name(main)
    if known[0] is baseline:
        return _baseline_leads(known, main)
    best, entry = known[0], paired(known[0], baseline, main)
    if entry["value"] is None:
        text = Markup(
            "<strong>{}</strong> has the highest {}, {}; no difference from the baseline {} can be given: {}."
        )
        return text.format(best.arm.name, name, _value(best, main), baseline.arm.name, entry.get("why", "undefined"))
    level = f"{100 * spec_of(best.arm.first).level:g}%"
    if outside(entry):
        text = Markup(
            "<strong>{}</strong> is best by {}: {}, <strong>{}</strong> from the baseline {} ({} interval of the "
            "paired difference {})."
        )
        return text.format(
            best.arm.name, name, _value(best, main), signed(entry["value"]), baseline.arm.name, level, ends(entry)
        )
    text = Markup(
        "<strong>{}</strong> has the highest {}, {}, but is not shown to be better than the baseline {}: the "
        "{} interval of the difference of {} holds zero ({})."
    )
    return text.format(
        best.arm.name, name, _value(best, main), baseline.arm.name, level, signed(entry["value"]), ends(entry)
    )


def _baseline_leads(known: Sequence[Measured], main: str) -> Markup:
    first = Markup("No run is better than the baseline <strong>{}</strong>: it has the highest {}, {}.").format(
        known[0].arm.name, _metric_name(main), _value(known[0], main)
    )
    if len(known) < 2:
        return first
    entry = paired(known[1], known[0], main)
    if entry["value"] is None:
        return first
    return first + Markup(" Next is {}, at {} from it ({}){}.").format(
        known[1].arm.name, signed(entry["value"]), ends(entry), _judged(entry)
    )


def _judged(entry: Entry) -> str:
    return "" if outside(entry) else ", an interval that holds zero"


def _metric_name(main: str) -> str:
    first, _, rest = METRICS[main].partition(" ")
    return f"{first.lower()} {rest}" if rest else first  # "image AUROC", but "AUPRO" and "Dice"


def _value(one: Measured, main: str) -> str:
    return shown(one.entries[main]["value"])


def cautions(found: Sequence[Measured], runs: Sequence[Run]) -> list[str]:
    """What a careful reader should know before believing a difference."""
    texts = []
    if any(run.records.metrics["protocol"].get("split") == "random" for run in runs):
        texts.append("The split is random, not by group: near-copies of test images may have been trained on.")
    alone = [one for one in found if len(one.arm.runs) == 1]
    if len(found) > 1 and alone:
        who = "Each run has" if len(alone) == len(found) else f"{counted(len(alone), 'row')} of the table have"
        texts.append(
            f"{who} a single seed: the interval holds the choice of test images, not the chance of training. "
            "Run more with other seeds (--set seed=1) and give them all."
        )
    if len(found) > 2:
        texts.append(
            f"{len(found)} were compared: the best of several looks better than it is, and no interval is widened "
            "for it."
        )
    texts += too_short([ending(run.records.finetune, run.records.recipe.finetune.batch_size) for run in runs])
    if len({_machine(run) for run in runs}) > 1:
        texts.append("The runs were made on different machines: their minutes and ms per image cannot be compared.")
    for one in found:
        texts += [f"{one.arm.name}, {METRICS[name]}: {why}." for name, why in one.apart.items()]
    return texts


def _machine(run: Run) -> str:
    records = [run.records.stages.get(stage) for stage in ("finetune", "evaluate")]
    return " ".join(str(sorted(record.machine.items())) for record in records if record)
