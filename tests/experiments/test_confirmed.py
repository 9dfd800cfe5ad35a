"""The drawing of what held: its figures are those of the tables, and it is the same each time."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

import confirmed

RESULTS = Path(confirmed.__file__).parent / "results"
HEAD = "initialisation,learns from,metric,state,seeds,mean,difference,difference_low,difference_high\n"
ASKED = confirmed.Asked("parts", "t", "pixel ap", {"initialisation": "mae", "learns from": "5"})


def write(folder: Path, *lines: str) -> Path:
    (folder / "t").mkdir(exist_ok=True)
    (folder / "t" / "table.csv").write_text(HEAD + "".join(f"{line}\n" for line in lines))
    return folder


def test_an_answer_is_read_beside_its_baseline(tmp_path: Path) -> None:
    write(
        tmp_path,
        "imagenet,5,pixel ap,finished,3,0.2,,,",
        "imagenet,10,pixel ap,finished,3,0.4,,,",
        "mae,5,pixel ap,finished,3,0.3,0.1,-0.05,0.25",
        "mae,5,image auroc,finished,3,0.9,0,0,0",
        "mae,10,pixel ap,not run,0,,,,",
    )
    found = confirmed.found(ASKED, tmp_path)
    assert (found.baseline, found.value, found.change, found.seeds) == (0.2, 0.3, (-0.05, 0.1, 0.25), 3)
    with pytest.raises(ValueError, match="0 rows are"):
        confirmed.found(replace(ASKED, labels={"initialisation": "mae", "learns from": "10"}), tmp_path)
    with pytest.raises(ValueError, match="2 rows are"):
        confirmed.found(replace(ASKED, labels={"learns from": "5"}), tmp_path)


@pytest.mark.parametrize("asked", confirmed.QUESTIONS, ids=lambda asked: f"{asked.table}-{asked.words}")
def test_every_question_has_its_answer_among_the_results(asked: confirmed.Asked) -> None:
    found = confirmed.found(asked, RESULTS)
    low, value, high = found.change
    assert low < value < high
    assert found.value - found.baseline == pytest.approx(value)  # paired over the same seeds


def test_the_drawing_in_git_is_that_of_the_results(tmp_path: Path) -> None:
    """As far as the words and figures go, which stand beside their outlines; those are the affair of matplotlib."""
    out = tmp_path / "confirmed.svg"
    confirmed.draw([confirmed.found(asked, RESULTS) for asked in confirmed.QUESTIONS], out)
    again = tmp_path / "again.svg"
    confirmed.draw([confirmed.found(asked, RESULTS) for asked in confirmed.QUESTIONS], again)
    assert out.read_bytes() == again.read_bytes()
    drawn, kept = (told(path) for path in (out, RESULTS.parent / "figures" / "confirmed.svg"))
    assert drawn == kept
    assert len(drawn) > 2 * len(confirmed.QUESTIONS)


def told(path: Path) -> list[str]:
    """The texts but for the ticks of the axis."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [line.removeprefix("<!-- ").removesuffix(" -->") for line in lines if line.startswith("<!-- ")]
    return [text for text in texts if " " in text]
