"""What stands under a table: how it was measured, on what, with what, and what could not be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ssl_defect.artifacts import digest, machine, versions
from ssl_defect.table.answer import unfinished
from ssl_defect.table.expand import shown
from ssl_defect.table.layout import not_run, published_alone, title
from ssl_defect.table.results import Results
from ssl_defect.table.settings import TableSettings

PLACES = ("data.root",)
SAME = 4  # so many different machines or splits are written out at most


def digest_of(table: TableSettings) -> str:
    """Of the table's recipe with all its defaults and what `--set` gave its runs, wherever their pictures lie.

    A recipe without `average` has the one from before there was any.
    """
    whole = table.model_dump(mode="json", exclude=set() if table.average else {"average"})
    return digest(whole | {"settings": {k: v for k, v in whole["settings"].items() if k not in PLACES}})


def notes(results: Results, base: str, said: Sequence[str] = ()) -> list[str]:
    """Sentences, one a line: legend, protocol, failures, sources; and what was not `said` above the table."""
    table = results.table
    return [
        *_legend(results),
        f"Recipe `{table.name}`, digest {digest_of(table)}, base {base}{_settings(table)}; seeds "
        f"{', '.join(map(str, table.seed_list))}; {_pretraining(table)}.",
        *([] if said else unfinished(results)),
        *_measured_on(results),
        *_failures(results),
        *_not_run(results),
        *_sources(results),
    ]


def _settings(table: TableSettings) -> str:
    """Those of every run, from the recipe and from `--set`; where the pictures lie is nobody's concern."""
    told = [f"`{key}` {value}" for key, value in table.settings.items() if key not in PLACES]
    return f" with {', '.join(told)}" if told else ""


def _legend(results: Results) -> list[str]:
    table = results.table
    level = f"{100 * table.level:g}%"
    if table.last_stage == "finetune":
        return [_for_choosing(results)]
    texts = [
        f"Mean ± standard deviation over n seeds{_of_folds(table)} ({level} interval over near-copy groups of the test "
        "images and over the seeds)."
    ]
    if table.baseline:
        over = sorted({results.corrected_over(name, of_means=False) for name in table.metrics})
        texts.append(
            "Differences are paired, by groups and by seeds; p is two-sided, by t for groups and seeds each, "
            f"and corrected by Holm over {_all_of(over)} of a metric. "
            f"▲ better, ▼ worse than the baseline: corrected p below {1 - table.level:.2g} and an interval that leaves "
            "zero out."
        )
        if means := results.corrected_over(table.metrics[0], of_means=True):
            texts.append(f"Means over {_averaged(table)} are paired alike, and corrected by Holm among these {means}.")
    texts.append("Bold is the best of its group, where it differs so from each other one (Holm over these).")
    if any(len(one.seeds) < 3 for one in results.measured.values()):
        texts.append("Fewer than three seeds tell little of the chance of training.")
    return texts


def _all_of(counts: list[int]) -> str:
    if counts == [1]:
        return "the one difference"
    return f"all {' or '.join(map(str, counts))} differences"


def _averaged(table: TableSettings) -> str:
    return " and ".join(
        f"{title(axis)} {', '.join(shown(axis, value) for value in values)}" for axis, values in table.average.items()
    )


def _for_choosing(results: Results) -> str:
    named = {fact["metric"] for one in results.measured.values() for fact in one.facts} - {""}
    return (
        f"Mean ± standard deviation over n seeds{_of_folds(results.table)} of the best value on validation "
        f"({' or '.join(sorted(named))}), by "
        "which fine-tuning chose its step: for choosing settings, too good for showing. No test label was opened."
    )


def _of_folds(table: TableSettings) -> str:
    return f", each the mean over {table.folds} folds, of which every one is tested once" if table.folds else ""


def _pretraining(table: TableSettings) -> str:
    if table.pretrain_seed == "run":
        return "each seed has its own pretraining"
    one = f"one pretraining{' per fold' if table.folds else ''} (seed {table.pretrain_seed})"
    return f"all share {one}, and vary initialisation, order and choice of labels"


def _measured_on(results: Results) -> list[str]:
    facts = [fact for one in results.measured.values() for fact in one.facts]
    splits = _different(_split(fact) for fact in facts)
    machines = _different(f"{fact['machine'].get('processor')}, {fact['machine'].get('cores')} cores" for fact in facts)
    used = _different(", ".join(f"{name} {v}" for name, v in fact["versions"].items()) for fact in facts)
    here = machine()
    return [
        f"Splits: {'; '.join(splits) or 'none measured'}.",
        *_opened(facts),
        f"Machine: {'; '.join(machines) or here['processor']}. Versions: "
        f"{'; '.join(used) or ', '.join(f'{name} {v}' for name, v in versions().items())}.",
        "Minutes of pretraining and fine-tuning, and milliseconds, are of runs side by side: the same network differs "
        "by what else the machine did. A shared pretraining is paid once.",
    ]


def _split(fact: dict[str, Any]) -> str:
    where = f"{fact['split_digest']} (by {fact['split']}; "
    if "validation" in fact:
        return f"{where}{fact['validation']['images']} validation images, {fact['validation']['defective']} defective)"
    counts = fact["counts"]
    return f"{where}{counts['test']} test images, {counts['defective']} defective, in {counts['groups']} groups)"


def _opened(facts: list[dict[str, Any]]) -> list[str]:
    """How often the runs opened their test labels; a run of an earlier version does not tell."""
    counts = {fact["evaluation"]: int(fact["opened"]) for fact in facts if fact.get("opened")}
    if not counts:
        return []
    again = sum(count > 1 for count in counts.values())
    more = f"; {again} of them more than once, at most {max(counts.values())} times" if again else ", once each"
    runs = f"{len(counts)} run{'s' if len(counts) > 1 else ''}"
    return [f"Test labels are opened by `evaluate` alone: {sum(counts.values())} times by {runs}{more}."]


def _different(texts: Any) -> list[str]:
    found = list(dict.fromkeys(texts))
    return found if len(found) <= SAME else [*found[:SAME], f"and {len(found) - SAME} more"]


def _failures(results: Results) -> list[str]:
    first = results.of(results.table.metrics[0])
    return [
        f"{one.state}: {', '.join(one.cell.labels.values())}: {one.reason}"
        for one in first
        if one.reason and not one.cell.over
    ]


def _not_run(results: Results) -> list[str]:
    left_out = [", ".join(key) for key in not_run(results)]
    return [f"Not finished, and left out above: {'; '.join(left_out)}."] if left_out else []


def _sources(results: Results) -> list[str]:
    table = results.table
    found = [
        f"[{number}] {block.source}{f' ({block.note})' if block.note else ''}"
        for number, block in enumerate(table.published, 1)
    ]
    if found and published_alone(results, results.table.metrics):
        found.append("Rows and cells with brackets alone are published figures; nothing was run for them here.")
    return found
