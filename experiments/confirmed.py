"""What held when it was asked again: fresh seeds, every picture tested once, drawn from the tables in `results/`.

    python experiments/confirmed.py [--out experiments/figures/confirmed.svg]

A line is one question that was settled before its first run, by its table's first metric: the row that validation had
chosen on earlier seeds, beside ImageNet weights as they are, with the 95% interval over near-copy groups and seeds.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

HERE = Path(__file__).parent
METRICS = {"pixel ap": "pixel AP", "image auroc": "image AUROC"}
SURE, UNSURE = "#0a7d46", "#666666"


@dataclass(frozen=True)
class Asked:
    """A question: the pictures and labels in words, and where its answer stands."""

    words: str
    table: str
    metric: str
    labels: dict[str, str]


@dataclass(frozen=True)
class Found:
    """Its answer: the metric of both rows, their difference with its ends, and the number of seeds."""

    asked: Asked
    baseline: float
    value: float
    change: tuple[float, float, float]  # low, difference, high
    seeds: int


QUESTIONS = (
    Asked(
        "tiles, 128 px, 5 labels, 200 steps",
        "confirming_magnetic_tile",
        "pixel ap",
        {"initialisation": "defect_seg", "learns from": "5"},
    ),
    Asked(
        "tiles, 128 px, 10 labels, 200 steps",
        "confirming_magnetic_tile_ten",
        "pixel ap",
        {"initialisation": "defect_seg"},
    ),
    Asked(
        "tiles, 64 px, 10 labels, 600 steps",
        "confirming_magnetic_tile_longer",
        "pixel ap",
        {"initialisation": "defect_seg"},
    ),
    Asked(
        "screws, 64 px, 5 labels, 400 steps",
        "confirming_screw",
        "pixel ap",
        {"initialisation": "defect_seg", "learns from": "5"},
    ),
    Asked(
        "screws, 64 px, 10 labels, 400 steps",
        "confirming_screw",
        "pixel ap",
        {"initialisation": "defect_seg", "learns from": "10"},
    ),
    Asked(
        "solar cells, 64 px, 5 labels, 200 steps",
        "confirming_elpv_folds",
        "image auroc",
        {"initialisation": "simmim", "learns from": "5"},
    ),
    Asked(
        "solar cells, 64 px, 10 labels, 200 steps",
        "confirming_elpv_folds",
        "image auroc",
        {"initialisation": "simmim", "learns from": "10"},
    ),
)


def found(asked: Asked, results: Path) -> Found:
    """Read the answer from the table's CSV.

    Raises:
        ValueError: there is not one finished row of that name, or not one baseline beside it.
    """
    with (results / asked.table / "table.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == asked.metric and row["state"] == "finished"]
    mine = _only(rows, asked.labels)
    base = _only(rows, asked.labels | {"initialisation": "imagenet"})
    low, value, high = (float(mine[name]) for name in ("difference_low", "difference", "difference_high"))
    return Found(asked, float(base["mean"]), float(mine["mean"]), (low, value, high), int(mine["seeds"]))


def _only(rows: Sequence[dict[str, str]], labels: dict[str, str]) -> dict[str, str]:
    there = [row for row in rows if labels.items() <= row.items()]
    if len(there) != 1:
        raise ValueError(f"{len(there)} rows are {labels}; there should be one")
    return there[0]


def draw(answers: Sequence[Found], out: Path) -> None:
    """A line per answer, green where its interval leaves zero out; as SVG with its letters as outlines."""
    figure = Figure(figsize=(9.2, 0.46 * len(answers) + 1.3), layout="constrained")
    axes = figure.add_subplot()
    for place, one in enumerate(answers):
        low, value, high = one.change
        colour = SURE if low > 0 or high < 0 else UNSURE
        axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot(value, place, "o", color=colour, markersize=7)
        text = f"{value:+.3f} ({low:+.3f} to {high:+.3f})"
        axes.text(1.02, place, text, transform=axes.get_yaxis_transform(), va="center", color=colour, fontsize=9)
    axes.axvline(0, color="black", linewidth=0.8)
    names = [
        f"{one.asked.words}\n{one.asked.labels['initialisation']}, {one.seeds} seeds, "
        f"{METRICS[one.asked.metric]} {one.value:.3f} for {one.baseline:.3f}"
        for one in answers
    ]
    axes.set_yticks(range(len(answers)), names, fontsize=9)
    axes.set_ylim(len(answers) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("difference from ImageNet weights as they are, 95% interval; green: zero is left out", fontsize=9)
    out.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "ssl-defect"}):  # the same bytes each time
        figure.savefig(out, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--out", type=Path, default=HERE / "figures" / "confirmed.svg")
    options = parser.parse_args()
    answers = [found(asked, options.results) for asked in QUESTIONS]
    draw(answers, options.out)
    print(options.out)


if __name__ == "__main__":
    main()
