"""The results as grids of short texts, whatever they are written as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ssl_defect.table.expand import Labels, shown
from ssl_defect.table.measure import Entry
from ssl_defect.table.results import Result, Results, matches, scaled
from ssl_defect.table.settings import TableSettings

ABSENT = "-"
COSTS = (
    ("pretraining", "pretraining, min", 1),
    ("training", "fine-tuning, min", 1),
    ("speed", "ms per image", 1),
    ("memory", "peak memory, MB", 0),
    ("size", "model, MB", 1),
)
MARKS = {"better": "▲", "worse": "▼", "": ""}


@dataclass(frozen=True)
class Text:
    """What stands in a cell; `strong` where it is marked as the winner or as a difference beyond chance."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Grid:
    """A caption, the heads of all columns, and rows of as many texts; `side` columns on the left name the row."""

    caption: str
    heads: list[str]
    rows: list[list[Text]] = field(default_factory=list)
    side: int = 1


def grids(results: Results) -> list[Grid]:
    """Values, differences, tests over the sets, and costs."""
    table = results.table
    found = []
    for metrics in [[name] for name in table.metrics] if table.columns else [table.metrics]:
        found.append(_grid(results, metrics, "", _value))
        if table.baseline and any(one.change for name in metrics for one in results.of(name)):
            base = ", ".join(shown(axis, value) for axis, value in table.baseline.items())
            found.append(_grid(results, metrics, f"difference from {base}", _change))
    found += [_overall(results, metric) for metric in results.overall]
    return [*found, _costs(results)]


def title(axis: str) -> str:
    """`finetune.labels_per_class` as `labels per class`."""
    return axis.rpartition(".")[2].replace("_", " ")


def axes_of(table: TableSettings) -> tuple[list[str], list[str]]:
    """Axes down the side, and along the top."""
    side = table.rows + [axis for axis in table.matrix if axis not in {*table.rows, *table.columns}]
    return side, table.columns


def _grid(results: Results, metrics: list[str], what: str, write: object) -> Grid:
    assert callable(write)
    table = results.table
    side, top = axes_of(table)
    by_key = {(name, *one.cell.labels.values()): one for name in metrics for one in results.of(name)}
    cited = [] if what else metrics
    left = keys_of(results, side, cited) if side else [()]
    without = _without(results, side, metrics)
    left = [key for key in left if key not in without] or left
    along = keys_of(results, top, cited) or [()]
    heads, rows = [title(axis) for axis in side], []
    heads += [_head(name, values, table) for name in metrics for values in along]
    for key in left:
        texts = [Text(part) for part in key]
        for name in metrics:
            for values in along:
                labels = dict(zip(side, key, strict=True)) | dict(zip(top, values, strict=True))
                one = by_key.get((name, *(labels[axis] for axis in table.matrix)))
                texts.append(write(one, table) if one else Text(_alone(labels, name, table) if not what else ABSENT))
        rows.append(texts)
    caption = metrics[0] if top else ""
    return Grid(": ".join(part for part in (caption, what) if part), heads, rows, len(side))


def _head(metric: str, values: tuple[str, ...], table: TableSettings) -> str:
    along = ", ".join(f"{title(axis)} {value}" for axis, value in zip(table.columns, values, strict=True))
    return along or metric


def keys_of(results: Results, axes: Sequence[str], cited: Sequence[str] = ()) -> list[tuple[str, ...]]:
    """Values of some axes that cells have, and those that only published figures of the metrics `cited` have, behind.

    Where nothing was run and nothing is published, as for the rows that `--only` leaves for later, they are left out.
    """
    if not axes:
        return []
    found = dict.fromkeys(tuple(one.cell.labels[axis] for axis in axes) for one in results.every if not _bare(one))
    for labels in published_alone(results, cited):
        found |= {tuple(labels[axis] for axis in axes): None}
    return list(found)


def _without(results: Results, axes: Sequence[str], metrics: Sequence[str]) -> set[tuple[str, ...]]:
    """Rows that have none of `metrics`, though another metric of the table: a classifier has no pixel AP."""
    rows: dict[tuple[str, ...], list[Result]] = {}
    for one in results.every:
        rows.setdefault(tuple(one.cell.labels[axis] for axis in axes), []).append(one)

    def empty(one: Result) -> bool:
        return one.entry is not None and one.entry["value"] is None and not one.published

    mine = {key: [one for one in every if one.metric in metrics] for key, every in rows.items()}
    return {key for key, every in rows.items() if all(map(empty, mine[key])) and not all(map(empty, every))}


def not_run(results: Results) -> list[tuple[str, ...]]:
    """The rows and columns that `keys_of` leaves out, each as the values of its axes."""
    found = []
    for axes in filter(None, axes_of(results.table)):
        shown_keys = keys_of(results, axes)
        every = dict.fromkeys(tuple(cell.labels[axis] for axis in axes) for cell in results.cells)
        found += [key for key in every if key not in shown_keys]
    return found


def _bare(one: Result) -> bool:
    return one.state == "not run" and not one.published


def published_alone(results: Results, metrics: Sequence[str]) -> list[Labels]:
    """Places where `metrics` have a published figure but no cell; an axis that a figure leaves open is ABSENT."""
    table, found = results.table, []
    for block in (one for one in table.published if one.metric in metrics):
        for value in block.values:
            if not any(matches(value, cell) for cell in results.cells):
                found.append({a: shown(a, value.at[a]) if a in value.at else ABSENT for a in table.matrix})
    return found


def _alone(labels: Labels, metric: str, table: TableSettings) -> str:
    """Published figures at a place where no cell is."""
    texts = []
    for number, block in enumerate(table.published, 1):
        for value in block.values if block.metric == metric else []:
            place = {a: shown(a, value.at[a]) if a in value.at else ABSENT for a in table.matrix}
            if place == labels:
                texts.append(figure(number, *scaled(value, block.unit), table, block.metric))
    return " ".join(texts) or ABSENT


def factor(table: TableSettings, metric: str) -> float:
    """What a metric is multiplied by to be shown: 100 in a table in percent, but for a task's own metrics."""
    return 100.0 if table.unit == "percent" and not metric.startswith("task ") else 1.0


def number(value: float | None, table: TableSettings, sign: bool = False, metric: str = "image auroc") -> str:
    """A metric as the table shows it: three decimals of a share, or one of a percentage."""
    if value is None:
        return ABSENT
    by, digits = factor(table, metric), 1 if factor(table, metric) > 1 else 3
    text = f"{value * by:{'+' if sign else ''}.{digits}f}"
    return text if float(text) or sign else text.removeprefix("-")


def figure(source: int, value: float, error: float | None, table: TableSettings, metric: str) -> str:
    """A published figure in brackets with the number of its source."""
    spread = "" if error is None else f" ± {number(error, table, metric=metric)}"
    return f"[{number(value, table, metric=metric)}{spread}; {source}]"


def _value(one: Result, table: TableSettings) -> Text:
    published = "".join(f" {figure(*each, table, one.metric)}" for each in one.published)
    if one.entry is None:
        return Text(one.state + published)
    return Text(_entry(one, one.entry, table) + published, one.winner)


def _entry(one: Result, entry: Entry, table: TableSettings) -> str:
    if entry["value"] is None:
        return ABSENT
    text = number(entry["value"], table, metric=one.metric)
    if entry.get("sd") is not None:
        text += f" ± {number(entry['sd'], table, metric=one.metric)}"
    if entry["low"] is not None:
        ends = (number(entry[end], table, metric=one.metric) for end in ("low", "high"))
        text += " ({} to {})".format(*ends)
    return f"{text}, n={one.seeds}" + (f" {MARKS[one.verdict]}" if one.verdict else "")


def _change(one: Result, table: TableSettings) -> Text:
    change = one.change
    if change is None:
        return Text("baseline" if one.entry and _is_baseline(one, table) else ABSENT)
    if change["value"] is None:
        return Text(f"{ABSENT} ({change['why']})")
    text = number(change["value"], table, True, one.metric)
    if change["low"] is not None:
        low, high = (number(change[end], table, True, one.metric) for end in ("low", "high"))
        text += f" ({low} to {high})"
    if change.get("holm") is not None:
        text += f", p {_p(change['p'])}, Holm {_p(change['holm'])}"
    return Text(text, bool(one.verdict))


def _is_baseline(one: Result, table: TableSettings) -> bool:
    return all(one.cell.labels[axis] == shown(axis, value) for axis, value in table.baseline.items())


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _overall(results: Results, metric: str) -> Grid:
    """Over the sets of pictures: mean ranks, and the gain over the baseline with its sign-flip p."""
    ranked = results.ranked[metric]
    rows = []
    gains = {str(row["name"]): row for row in results.overall[metric]}
    for rank, name in sorted(zip(ranked.ranks, ranked.names, strict=True)):
        row = gains.get(name)
        texts = [
            Text(name),
            Text(f"{rank:.2f}"),
            Text(number(row["value"], results.table, True, metric) if row else "baseline"),
        ]
        rows.append([*texts, Text(f"{_p(row['p'])}, Holm {_p(row['holm'])}" if row else "")])
    test = "" if ranked.p is None else f"; Friedman's chi-square {ranked.statistic:.2f}, p {_p(ranked.p)}"
    caption = f"{metric} over {ranked.blocks} sets{test}; critical difference of mean ranks {ranked.distance:.2f}"
    return Grid(caption, [title("treatment"), "mean rank", "mean gain", "p (sign flips)"], rows)


def _costs(results: Results) -> Grid:
    table = results.table
    side, top = axes_of(table)
    axes = [*side, *top]
    grid = Grid("cost, mean over seeds", [*map(title, axes), *(name for _, name, _ in COSTS)], [], len(axes))
    for cell in results.cells:
        found = results.measured.get(cell.name)
        if found and not cell.over:
            costs = [(found.cost(key), digits) for key, _, digits in COSTS]
            texts = [ABSENT if value is None else f"{value:,.{digits}f}" for value, digits in costs]
            grid.rows.append([Text(text) for text in [*(cell.labels[axis] for axis in axes), *texts]])
    return grid
