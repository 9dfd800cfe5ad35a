"""Sentences, cautions and the choice of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated_run import Fake, build

from ssl_defect.report.advice import cautions
from ssl_defect.report.mistakes import _called
from ssl_defect.report.mistakes import section as mistakes
from ssl_defect.report.records import RunRecords, read_run
from ssl_defect.report.verdict import headline, pretraining


@pytest.fixture
def records(tmp_path: Path) -> RunRecords:
    return read_run(build(tmp_path, Fake(count=240, gradcam=0)), tmp_path)


def plain(texts: list[Any]) -> str:
    return " ".join(text.striptags() for text in texts)


def test_false_alarms_are_a_share_of_the_good_ones(records: RunRecords) -> None:
    records.metrics["image"]["confusion"] = {"tn": 95, "fp": 5, "fn": 2, "tp": 8}
    records.metrics["image"]["recall"] = {"value": 0.8, "low": 0.7, "high": 0.9}
    text = headline(records.metrics).striptags()
    assert "finds 80% of the defective parts and raises 5.0 false alarms per 100 good ones" in text


def test_without_a_threshold_there_is_no_claim(records: RunRecords) -> None:
    records.metrics["threshold"]["value"] = None
    assert "gives scores but no verdicts" in headline(records.metrics)
    assert "false alarm" not in headline(records.metrics)


@pytest.mark.parametrize(
    ("after", "words"), [(0.8, "a hint that it helped"), (0.604, "made no difference"), (0.5, "features worse")]
)
def test_pretraining_is_judged_by_its_probe(records: RunRecords, after: float, words: str) -> None:
    records.pretrain["probe"] = {"metric": "kNN AUROC on validation", "before": 0.6, "after": after}
    records.pretrain["linear_probe"] = {"metric": "linear AUROC on validation", "before": None, "after": None}
    assert words in pretraining(records)


@pytest.mark.parametrize(
    ("after", "linear", "words"),
    [
        (0.8, 0.8, "a hint that it helped"),
        (0.8, 0.604, "a hint that it helped"),
        (0.8, 0.5, "do not agree"),
        (0.5, 0.8, "do not agree"),
        (0.604, 0.596, "By these probes it made no difference"),
        (0.5, 0.604, "By these probes it made the features worse"),
    ],
)
def test_two_probes_are_both_told_and_may_not_agree(
    records: RunRecords, after: float, linear: float, words: str
) -> None:
    records.pretrain["probe"] = {"metric": "kNN AUROC on validation", "before": 0.6, "after": after}
    records.pretrain["linear_probe"] = {"metric": "linear AUROC on validation", "before": 0.6, "after": linear}
    text = pretraining(records)
    assert words in text
    assert f"linear AUROC on validation from 0.60 to <strong>{linear:.2f}</strong>" in text


def test_a_careful_run_has_no_cautions(records: RunRecords) -> None:
    records.audit["copies"]["mixed_labels"] = []
    records.audit["set_aside"] = []
    records.metrics["image"]["auroc"] = {"value": 0.9, "low": 0.87, "high": 0.93}
    assert cautions(records) == []


def test_each_weakness_is_said(records: RunRecords) -> None:
    records.metrics["image"]["auroc"] = {"value": 0.6, "low": 0.45, "high": 0.7}
    records.metrics["counts"]["defective"] = 7
    records.metrics["pixel"] = None
    records.audit["leak"]["this_split_share"] = 0.25
    records.audit["set_aside"] = [{"image": "x", "reason": "y"}] * 30
    records.pretrain["collapsed"] = True
    text = plain(cautions(records))
    for words in (
        "not shown to be better than chance",
        "Only 7 defective images",
        "no pixel metrics",
        "25% of the test images have a near-copy in training",
        "30 pictures of 270 could not be used",
        "Pretraining collapsed",
        "1 group of near-copies with different labels",
    ):
        assert words in text


def test_worst_mistakes_come_first_and_share_the_room(records: RunRecords) -> None:
    found = mistakes(records)
    wrong = [one for one in records.predictions if not one.correct]
    misses = sorted((one for one in wrong if one.label), key=lambda one: one.score)
    alarms = sorted((one for one in wrong if not one.label), key=lambda one: -one.score)
    assert misses
    assert alarms
    assert found["counts"] == {"misses": len(misses), "alarms": len(alarms)}
    assert [shot.file for shot in found["misses"]] == [one.image for one in misses[: len(found["misses"])]]
    assert [shot.file for shot in found["alarms"]] == [one.image for one in alarms[: len(found["alarms"])]]
    assert len(found["misses"]) + len(found["alarms"]) == min(24, len(wrong))


def test_a_mistake_shows_what_was_drawn_and_what_was_predicted(records: RunRecords) -> None:
    found = mistakes(records)
    assert all(shot.outline_true and shot.heat for shot in found["misses"])
    assert not any(shot.outline_true for shot in found["alarms"])
    drawn = {shot.outline_true for shot in found["misses"]}
    assert all(shot.outline_found not in drawn for shot in found["misses"])


@pytest.mark.parametrize(("area", "cells"), [(None, 4), (4 / 16, 4), (8 / 16, 8)])
def test_an_outline_follows_the_recorded_area(area: float | None, cells: int) -> None:
    values = np.repeat(np.array([0, 4, 5, 0], np.uint8), 4).reshape(4, 4)
    assert _called(values, 4.05 / 255, area).sum() == cells
