"""What stands under a table: how it was measured, on what, with what, and what could not be."""

from __future__ import annotations

from typing import Any

from ssl_defect.artifacts import digest, machine, versions
from ssl_defect.table.layout import published_alone
from ssl_defect.table.results import Results
from ssl_defect.table.settings import TableSettings

SAME = 4  # so many different machines or splits are written out at most


def digest_of(table: TableSettings) -> str:
    """Of the table's recipe with all its defaults."""
    return digest(table.model_dump(mode="json"))


def notes(results: Results, base: str, draws: int) -> list[str]:
    """Sentences, one a line: legend, protocol, failures, sources."""
    table = results.table
    return [
        *_legend(results, draws),
        f"Recipe `{table.name}`, digest {digest_of(table)}, base {base}; seeds "
        f"{', '.join(map(str, table.seed_list))}; {_pretraining(table)}.",
        *_measured_on(results),
        *_failures(results),
        *_sources(results),
    ]


def _legend(results: Results, draws: int) -> list[str]:
    table = results.table
    level = f"{100 * table.level:g}%"
    texts = [
        f"Mean ± standard deviation over n seeds ({level} percentile interval from {draws} draws of near-copy groups "
        "of the test images and of the seeds)."
    ]
    if table.baseline:
        over = {name: sum(1 for one in results.of(name) if one.change) for name in table.metrics}
        texts.append(
            "Differences are paired: the same groups and seeds are drawn for both sides; p is two-sided, the larger "
            "of the bootstrap's and of a t-test that knows the number of seeds, "
            f"and corrected by Holm over all {' or '.join(map(str, sorted(set(over.values()))))} differences of "
            "a metric. "
            f"▲ better, ▼ worse than the baseline: corrected p below {1 - table.level:.2g} and an interval that leaves "
            "zero out."
        )
        least = 2 / (draws + 1) * max(over.values(), default=0)
        if least >= 1 - table.level:
            texts.append("Too few draws for so many differences: none can be marked; raise `draws`.")
    texts.append("Bold is the best of its group, where it differs so from each other one (Holm over these).")
    if any(len(one.seeds) < 3 for one in results.measured.values()):
        texts.append("Fewer than three seeds tell little of the chance of training.")
    return texts


def _pretraining(table: TableSettings) -> str:
    if table.pretrain_seed == "run":
        return "each seed has its own pretraining"
    return (
        f"all share one pretraining (seed {table.pretrain_seed}), and vary initialisation, order and choice of labels"
    )


def _measured_on(results: Results) -> list[str]:
    facts = [fact for one in results.measured.values() for fact in one.facts]
    splits = _different(
        f"{fact['split_digest']} (by {fact['split']}; {fact['counts']['test']} test images, "
        f"{fact['counts']['defective']} defective, in {fact['counts']['groups']} groups)"
        for fact in facts
    )
    machines = _different(f"{fact['machine'].get('processor')}, {fact['machine'].get('cores')} cores" for fact in facts)
    used = _different(", ".join(f"{name} {v}" for name, v in fact["versions"].items()) for fact in facts)
    here = machine()
    return [
        f"Splits: {'; '.join(splits) or 'none measured'}.",
        f"Machine: {'; '.join(machines) or here['processor']}. Versions: "
        f"{'; '.join(used) or ', '.join(f'{name} {v}' for name, v in versions().items())}.",
        "Minutes of pretraining and fine-tuning are of runs side by side; a shared pretraining is paid once.",
    ]


def _different(texts: Any) -> list[str]:
    found = list(dict.fromkeys(texts))
    return found if len(found) <= SAME else [*found[:SAME], f"and {len(found) - SAME} more"]


def _failures(results: Results) -> list[str]:
    first = results.of(results.table.metrics[0])
    return [f"{one.state}: {', '.join(one.cell.labels.values())}: {one.reason}" for one in first if one.reason]


def _sources(results: Results) -> list[str]:
    table = results.table
    found = [
        f"[{number}] {block.source}{f' ({block.note})' if block.note else ''}"
        for number, block in enumerate(table.published, 1)
    ]
    if found and published_alone(results):
        found.append("Rows and cells with brackets alone are published figures; nothing was run for them here.")
    return found
