"""compare: the records of finished runs to one self-contained page. The same records give the same bytes."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from ssl_defect.artifacts import atomic
from ssl_defect.compare import contest, figures, table, verdict
from ssl_defect.compare.baselines import baseline_of, baselines_of, baselines_told
from ssl_defect.compare.efficiency import efficiency
from ssl_defect.compare.lead import Lead
from ssl_defect.compare.measure import METRICS, main_metric, measure
from ssl_defect.compare.runs import Run, arms_of, read_runs, same_images
from ssl_defect.errors import UserError, clear_system_errors
from ssl_defect.report import stage
from ssl_defect.report.numbers import counted, share, shown
from ssl_defect.report.templates import environment

HERE = Path(__file__).parent
REPORT = Path(stage.__file__).parent
PAGE = "index.html"


Told = Mapping[Path, Path | None]


def compare(
    folders: Sequence[Path],
    out: Path,
    baseline: Path | None = None,
    told: Told | None = None,
    metric: str = "",
    lead: Lead | None = None,
) -> Path:
    """Write `out/index.html` from finished runs, and return its path.

    Args:
        baseline: the run that others are measured against; the first without pretraining where left out. Of several
            budgets of labels each is measured against that initialisation with as many.
        told: where the caller knows the baseline of each run, its folder by that of the run; a baseline's is its own.
        metric: of METRICS, what the page goes by; left out, `main_metric` chooses. Runs without it stand last.
        lead: what stands above them, and heads the page.

    Raises:
        UserError: fewer than two runs, one given twice, no run, not evaluated or damaged; an unknown baseline or
            metric; or `out` cannot be written.
    """
    if metric and metric not in METRICS:
        raise UserError(f"--metric {metric}: unknown; give one of {', '.join(METRICS)}")
    runs = read_runs(folders)
    html = render(runs, _baseline(runs, baseline), told, metric, lead)
    with clear_system_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        with atomic(out / PAGE) as temporary:
            temporary.write_text(html, encoding="utf-8", newline="\n")
    return out / PAGE


def _baseline(runs: Sequence[Run], wanted: Path | None) -> Run | None:
    if wanted is None:
        return None
    for run in runs:
        if run.folder.resolve() == wanted.resolve():
            return run
    raise UserError(f"--baseline {wanted}: none of the runs; give one of {', '.join(str(run.folder) for run in runs)}")


def render(
    runs: Sequence[Run],
    baseline: Run | None = None,
    told: Told | None = None,
    metric: str = "",
    lead: Lead | None = None,
) -> str:
    """The page as a function of its records: no clock, no network, no chance."""
    style = "\n".join(_source(path) for path in (REPORT / "style.css.j2", HERE / "compare.css"))
    script = _source(HERE / "compare.js")
    answered = lead is not None and lead.answered
    sets = [_set(number, some, baseline, told, metric, answered) for number, some in enumerate(same_images(runs), 1)]
    return (
        _environment()
        .get_template("compare.html.j2")
        .render(
            sets=sets,
            runs=runs,
            lead=lead,
            style=Markup(style),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def _set(
    number: int, runs: Sequence[Run], wanted: Run | None, told: Told | None, metric: str, answered: bool
) -> dict[str, Any]:
    """All that is shown of the runs that were tested on the same images; no verdict where one stands above them."""
    arms, main = arms_of(runs), main_metric(runs, metric)
    bases = baselines_told(arms, told) if told else baselines_of(arms, wanted)
    base = next(iter(bases.values()), arms[0]) if told else baseline_of(arms, wanted)
    found = measure(arms)
    by_arm = {one.arm: one for one in found}
    against = {by_arm[arm]: by_arm[one] for arm, one in bases.items()}
    metrics, recipe = runs[0].records.metrics, runs[0].records.recipe
    return {
        "id": f"set{number}",
        "source": recipe.data.source,
        "sizes": sorted({run.records.recipe.data.image_size for run in runs}),
        "digest": metrics["protocol"]["split_digest"],
        "split": metrics["protocol"]["split"],
        "counts": metrics["counts"],
        "interval": metrics["interval"],
        "names": [run.name for run in runs],
        "alone": len(arms) < 2,
        "baselines": list(dict.fromkeys(one.name for one in bases.values())),
        "main": METRICS[main],
        "headlines": [] if answered else verdict.headlines(found, against, main),
        "cautions": verdict.cautions(found, runs),
        "table": table.runs_table(found, against, main),
        "differences": table.differences_table(found, against, main),
        "seeds": table.seeds_table(found, main),
        "figures": [] if answered else figures.differences(found, against, main),
        "efficiency": efficiency(found, base, main),
        "costs": figures.costs(found, main),
        "contest": contest.section([one.arm for one in table.ordered(found, main)], bases, base),
    }


def _source(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def breakable(name: str) -> Markup:
    """A name that a narrow column breaks behind its hyphens and underscores, not within a word."""
    parts = re.split(r"(?<=[-_])(?=.)", name)
    return Markup("<span>{}</span>").format(Markup("<wbr>").join(parts))


@cache
def _environment() -> Environment:
    return environment([HERE, REPORT], share=share, shown=shown, counted=counted, breakable=breakable)
