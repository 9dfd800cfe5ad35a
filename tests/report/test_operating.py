"""The table of operating points against brute force, and what the page is given of the scores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated_run import Fake, build
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from read_page import Page
from sklearn.metrics import confusion_matrix, f1_score, precision_score, recall_score

from ssl_defect.report import operating
from ssl_defect.report.cuts import RULES, Scores, alarms_of, best_f1, cheapest, measured, points, recall_of
from ssl_defect.report.histogram import bounds_of
from ssl_defect.report.records import Prediction, RunRecords, read_run
from ssl_defect.report.stage import render

SIDE = hnp.arrays(np.float64, st.integers(1, 12), elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.5000001, 0.9, 1.0]))
BOTH = st.tuples(SIDE, SIDE).map(lambda pair: Scores(np.sort(pair[0]), np.sort(pair[1])))


def arrays(scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    labels = np.repeat([0, 1], [len(scores.good), len(scores.defective)])
    return labels, np.concatenate([scores.good, scores.defective])


def every_verdict(scores: Scores) -> list[np.ndarray]:
    """All ways in which a threshold can part the images, from all called defective to none."""
    _, values = arrays(scores)
    return [values >= level for level in [*np.unique(values), np.inf]]


@given(BOTH)
def test_cuts_are_all_the_ways_to_part_the_scores(scores: Scores) -> None:
    _, values = arrays(scores)
    assert [(values >= cut).tolist() for cut in scores.cuts()] == [one.tolist() for one in every_verdict(scores)]


def test_a_cut_between_neighbouring_floats_parts_them() -> None:
    low = 0.3
    high = float(np.nextafter(low, 1))
    assert Scores(np.array([low]), np.array([high])).cuts().tolist() == [0.15, high, high + (1 - high) / 2]
    assert Scores(np.array([0.0]), np.array([1.0])).cuts()[-1] > 1


def rates_of(scores: Scores, called: np.ndarray) -> tuple[float, float, float]:
    labels, _ = arrays(scores)
    true, good = int((called & (labels == 1)).sum()), labels == 0
    recall, alarms = true / int((labels == 1).sum()), int((called & good).sum())
    return recall, alarms / int(good.sum()), 2 * true / (int(called.sum()) + int((labels == 1).sum()))


@given(BOTH, st.sampled_from([0.5, 0.95, 0.99, 1.0]))
def test_the_least_alarms_of_a_wanted_recall(scores: Scores, wanted: float) -> None:
    _, values = arrays(scores)
    recall, alarms, _ = rates_of(scores, values >= recall_of(wanted)(scores, 0.5))
    assert recall >= wanted
    assert alarms == min(a for r, a, _ in (rates_of(scores, one) for one in every_verdict(scores)) if r >= wanted)


@given(BOTH, st.sampled_from([0.0, 0.01, 0.05, 0.5]))
def test_the_most_recall_of_allowed_alarms(scores: Scores, allowed: float) -> None:
    _, values = arrays(scores)
    recall, alarms, _ = rates_of(scores, values >= alarms_of(allowed)(scores, 0.5))
    assert alarms <= allowed
    assert recall == max(r for r, a, _ in (rates_of(scores, one) for one in every_verdict(scores)) if a <= allowed)


@given(BOTH, st.floats(0, 100), st.floats(0, 100), st.floats(0, 1))
def test_nothing_is_cheaper_than_the_cheapest(scores: Scores, miss: float, alarm: float, share: float) -> None:
    def cost(called: np.ndarray) -> float:
        recall, alarms, _ = rates_of(scores, called)
        return share * (1 - recall) * miss + (1 - share) * alarms * alarm

    _, values = arrays(scores)
    found = cost(values >= cheapest(miss, alarm)(scores, share))
    assert found == pytest.approx(min(cost(one) for one in every_verdict(scores)), abs=1e-9)


def test_of_equally_cheap_thresholds_the_highest_is_taken() -> None:
    scores = Scores(np.array([0.1, 0.3]), np.array([0.2, 0.9]))
    assert cheapest(1, 1)(scores, 0.5) == pytest.approx(0.6)
    assert cheapest(0, 0)(scores, 0.5) > 0.9


@given(BOTH)
def test_the_largest_f1(scores: Scores) -> None:
    _, values = arrays(scores)
    found = rates_of(scores, values >= best_f1(scores, 0.5))[2]
    assert found == max(f1 for *_, f1 in (rates_of(scores, one) for one in every_verdict(scores)))


@given(BOTH, st.floats(0, 1.1))
@settings(max_examples=50)
def test_a_point_is_what_scikit_learn_says(scores: Scores, threshold: float) -> None:
    labels, values = arrays(scores)
    called, point = values >= threshold, measured("any", threshold, "test", scores)
    assert confusion_matrix(labels, called, labels=[0, 1]).ravel().tolist() == [
        len(scores.good) - point.alarms,
        point.alarms,
        point.missed,
        len(scores.defective) - point.missed,
    ]
    assert point.recall == pytest.approx(recall_score(labels, called))
    assert point.f1 == pytest.approx(f1_score(labels, called, zero_division=0))
    if called.any():
        assert point.precision == pytest.approx(precision_score(labels, called))
    else:
        assert point.precision is None


def test_thresholds_come_from_validation_and_figures_from_test() -> None:
    rng = np.random.default_rng(0)
    val, test = (Scores(np.sort(rng.beta(2, 4, n)), np.sort(rng.beta(4, 2, n))) for n in (200, 300))
    found = points((0.5, "stated"), test, val)
    assert [one.threshold for one in found[1:-1]] == [rule(val, test.share) for _, rule in RULES]
    assert [one.chosen_on for one in found] == ["validation"] * 7 + ["test"]
    assert [(one.missed, one.alarms) for one in found] == [
        tuple(int(n[0]) for n in test.wrong(np.array([one.threshold]))) for one in found
    ]
    alone = points((0.5, "stated"), test, Scores(val.good, np.array([])))
    assert [one.threshold for one in alone[1:-1]] == [rule(test, test.share) for _, rule in RULES]
    assert [one.chosen_on for one in alone[1:]] == ["test"] * 7


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_bounds_hold_all_scores(values: list[float]) -> None:
    low, high = bounds_of(values)
    assert 0 <= low < high <= 1
    assert low - 1e-9 <= min(values)
    assert max(values) <= high + 1e-9


def test_close_scores_fill_the_slider() -> None:
    assert bounds_of([0.4213, 0.4266]) == (0.421, 0.427)
    assert bounds_of([0.0, 1.0]) == (0.0, 1.0)


@pytest.fixture
def records(tmp_path: Path) -> RunRecords:
    return read_run(build(tmp_path, Fake(count=120, gradcam=0)), tmp_path)


def given_to(page: Page) -> Any:
    start = page.html.index('id="op-data">') + len('id="op-data">')
    return json.loads(page.html[start : page.html.index("</script>", start)])


def test_the_page_holds_every_score_in_full(records: RunRecords) -> None:
    data = given_to(Page(render(records)))
    for name, label in (("good", 0), ("defective", 1)):
        assert data["test"][name] == sorted(one.score for one in records.predictions if one.label == label)
    assert data["threshold"] == records.metrics["threshold"]["value"]


def test_the_data_cannot_end_its_block(records: RunRecords) -> None:
    rule = "</script><script>alert(1)</script><!--"
    records.metrics["threshold"]["rule"] = rule
    page = Page(render(records))
    assert given_to(page)["rule"] == rule
    assert rule in page.text.replace("Chosen: ", "")
    assert "<script>alert" not in page.html


def test_the_table_is_complete_without_script(make_page: Callable[[Fake], Page], tmp_path: Path) -> None:
    page = make_page(Fake(count=240))
    records = read_run(build(tmp_path, Fake(count=240)), tmp_path)
    for row in operating.section(records)["rows"]:
        cells = (row["threshold"], row["precision"], row["recall"], row["f1"], row["missed"], row["alarms"])
        assert "".join(cells) in page.text.replace(" ", "")
    assert "Choosing by looking flatters" in page.text
    hidden = [facts for _, facts in page.tags if facts.get("id") == "op"]
    assert ["hidden" in facts for facts in hidden] == [True]


def test_without_both_classes_it_is_said(make_page: Callable[[Fake], Page]) -> None:
    assert "No operating point to choose: the test images hold one class only." in make_page(Fake(one_class=True)).text


def test_without_a_threshold_it_is_said(records: RunRecords) -> None:
    records.metrics["threshold"]["value"] = None
    assert operating.section(records) == {"why": "no threshold was chosen"}


@pytest.mark.parametrize("defective", [0, 3])
def test_where_the_thresholds_come_from_is_said(records: RunRecords, defective: int) -> None:
    first = records.predictions[0]
    val = [Prediction(**{**vars(first), "label": int(n < defective), "score": 1 - n / 10}) for n in range(9)]
    object.__setattr__(records, "validation", val)
    found = operating.section(records)
    assert found["chosen_on"] == ("9 validation images" if defective else "")
    assert {row["chosen_on"] for row in found["rows"][1:-1]} == {"validation" if defective else "test"}
    assert found["rows"][0]["chosen_on"] == "validation"


def test_what_choosing_on_test_would_add_is_told() -> None:
    scores = Scores(np.array([0.1, 0.2, 0.55, 0.56]), np.array([0.5, 0.6, 0.7, 0.8]))
    chosen, best = (measured("", at, "test", scores) for at in (0.3, best_f1(scores, 0.5)))
    assert "the largest F1 is 0.857, at 0.58;" in operating._note(chosen, best, scores)
    assert "The 0.057 between them" in operating._note(chosen, best, scores)
    assert "already gives the largest F1" in operating._note(best, best, scores)
