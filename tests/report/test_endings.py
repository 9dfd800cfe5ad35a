"""How a fine-tuning ended, from what it left."""

from __future__ import annotations

from typing import Any

import pytest

from ssl_defect.report.endings import Ending, ending, too_short

RAN, STOPPED = {"stopped_early": False}, {"stopped_early": True}
LABELS = {"labels": {"good": 60, "crack": 40}}


@pytest.mark.parametrize(
    ("told", "how"),
    [
        (RAN | {"best_step": 200, "steps": 200}, Ending.BEST_LAST),
        (RAN | {"best_step": 190, "steps": 200}, Ending.BEST_LAST),  # 0.95 of them
        (RAN | {"best_step": 189, "steps": 200}, Ending.ENOUGH),
        (RAN | LABELS | {"best_step": 1, "steps": 5}, Ending.ENOUGH),  # few steps, but it was not stopped
        (STOPPED | LABELS | {"best_step": 4, "steps": 13}, Ending.ENOUGH),  # 104 drawn of 100
        (STOPPED | LABELS | {"best_step": 4, "steps": 12}, Ending.BEFORE_A_PASS),  # 96 of 100
        (STOPPED | {"best_step": 4, "steps": 12}, Ending.ENOUGH),  # of an older run that did not count
        ({"best_step": 0, "steps": 0}, None),
        ({"task": "anomaly"}, None),
    ],
)
def test_how_a_fine_tuning_ended(told: dict[str, Any], how: Ending | None) -> None:
    assert ending(told, 8) is how


def test_without_a_batch_size_a_stop_is_taken_to_be_in_time() -> None:
    assert ending(STOPPED | LABELS | {"best_step": 4, "steps": 12}, None) is Ending.ENOUGH


def test_nothing_is_said_of_nothing() -> None:
    assert too_short([]) == []
