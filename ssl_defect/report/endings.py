"""How fine-tunings ended: whether more steps, or more patience, might have made them better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any


class Ending(StrEnum):
    """How validation ended a fine-tuning."""

    BEST_LAST = "best at the last look"
    BEFORE_A_PASS = "stopped before a pass"
    ENOUGH = "enough"


def ending(finetune: Mapping[str, Any], batch_size: int | None) -> Ending | None:
    """How a fine-tuning ended.

    Args:
        finetune: `finetune.json`.
        batch_size: images per step; None where that is not recorded.

    Returns:
        `BEST_LAST`: it ran to its last step and was best there, or within 5% of the steps before. `BEFORE_A_PASS`: it
        was stopped after drawing fewer images than are labelled. None where no step was chosen by validation, as by
        detectors from good images.
    """
    best, steps = finetune.get("best_step"), finetune.get("steps")
    if not best or not steps:
        return None
    if not finetune.get("stopped_early"):
        return Ending.BEST_LAST if best >= 0.95 * steps else Ending.ENOUGH
    labelled = sum((finetune.get("labels") or {}).values())
    return Ending.BEFORE_A_PASS if batch_size and steps * batch_size < labelled else Ending.ENOUGH


def too_short(endings: Sequence[Ending | None]) -> list[str]:
    """Warnings where most fine-tunings of a comparison were best at their end, or any was stopped before a pass.

    A pretraining that brings a decoder along, or features close to the task, is ahead early on; whether it stays ahead
    only a longer training tells.
    """
    known = [one for one in endings if one is not None]
    last, early = (known.count(kind) for kind in (Ending.BEST_LAST, Ending.BEFORE_A_PASS))
    found = []
    if 2 * last > len(known):
        found.append(
            f"Validation was best at the last look in {last} of {len(known)} fine-tunings: with more steps "
            "(finetune.steps) values, differences and their order may change."
        )
    if early:
        found.append(
            f"{early} of {len(known)} fine-tunings {'was' if early == 1 else 'were'} stopped before as many images had "
            "been drawn as are labelled: with more patience (finetune.patience, finetune.eval_every) values, "
            "differences and their order may change."
        )
    return found
