"""What the drawings of a comparison show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ssl_defect.compare import charts
from ssl_defect.compare.charts import Differences, Spot
from ssl_defect.compare.measure import METRICS, Against, Measured, difference, outside
from ssl_defect.compare.table import mean_cost, ordered
from ssl_defect.report.numbers import shown
from ssl_defect.report.svg import swatch

DRAWN = 24  # signs that differ in colour and shape: eight colours, six shapes


def differences(found: Sequence[Measured], against: Against, main: str) -> list[dict[str, Any]]:
    """Paired differences by the main metric, a drawing per baseline, all on one scale."""
    bases = [base for base in found if against.get(base) is base]
    drawn = [(base, rows) for base in bases if (rows := _differences(found, against, base, main))]
    ends = charts.reach([rows for _, rows in drawn]) if drawn else (0.0, 0.0)
    label = f"{METRICS[main]}, difference from the baseline"
    return [
        {
            "title": base.arm.name,
            "figure": charts.differences(
                rows,
                label,
                f"Difference in {METRICS[main]} from {base.arm.name} with its interval, for {len(rows)} others.",
                ends,
            ),
        }
        for base, rows in drawn
    ]


def _differences(found: Sequence[Measured], against: Against, base: Measured, main: str) -> Differences:
    rows = []
    for one in ordered([one for one in found if against.get(one) is base], main):
        entry = difference(one, against, main)
        if entry and entry["value"] is not None:
            spot = Spot(0, entry["value"], entry["low"], entry["high"])
            rows.append((one.arm.name, spot, outside(entry)))
    return rows


def costs(found: Sequence[Measured], main: str) -> dict[str, Any]:
    """Quality against minutes of training and against ms per image, with one legend, of the best by `main`.

    Of detectors that are all the same network the ms are left out: they would show what else the machine did.
    """
    best = ordered(found, main)[:DRAWN]
    costs = [mean_cost(one.arm) for one in best]
    minutes = [_sum(cost["pretraining"], cost["training"]) for cost in costs]
    axes = (
        ("Minutes of pretraining and fine-tuning", minutes),
        ("Milliseconds per image", [cost["speed"] for cost in costs]),
    )
    plots = []
    for label, values in axes if len({_network(one) for one in best}) > 1 else axes[:1]:
        spots = [charts.spot(value, one.entries.get(main)) for value, one in zip(values, best, strict=True)]
        if sum(spot is not None for spot in spots) > 1:
            alt = f"{METRICS[main]} against {label.lower()}: " + "; ".join(
                f"{one.arm.name} {shown(spot.value)} at {spot.x:.1f}"
                for one, spot in zip(best, spots, strict=True)
                if spot
            )
            plots.append({"title": label, "figure": charts.cost(spots, (label.lower(), METRICS[main]), alt)})
    legend = [(swatch(number), one.arm.name) for number, one in enumerate(best)]
    return {"plots": plots, "legend": legend, "left_out": len(found) - len(best)}


def _network(one: Measured) -> tuple[str, str, int]:
    run = one.arm.first
    return run.detector, run.backbone, run.records.recipe.data.image_size


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second
