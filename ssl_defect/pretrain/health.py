"""Signs that a pretraining learns nothing: a collapse stops it, what may yet turn is a warning, said once."""

from __future__ import annotations

from typing import Any

from ssl_defect.errors import UserError
from ssl_defect.pretrain.base import COLLAPSED, Method
from ssl_defect.pretrain.work import CHECKPOINT, Work

FEW_DIRECTIONS = 2.0  # RankMe below which features lie along one line; the backbones here begin at 10 and more
AT_CHANCE = 0.98  # share of the loss at chance from which on nothing has been learned
SETTLED = 0.25  # share of the run after which a loss has to be better than that
FALLEN = 0.99  # share of the first epoch's loss that the last one has to be below


def check_collapse(last: dict[str, float], epoch: int, work: Work) -> None:
    """Stop where all embeddings are alike in the last step of an epoch, whatever they were before it.

    Raises:
        UserError: naming the epoch, the last good checkpoint and what to try.
    """
    value = last.get("spread")
    if value is None or value >= COLLAPSED:
        return
    checkpoint = work.out / CHECKPOINT
    kept = f"the last good checkpoint is {checkpoint}" if checkpoint.exists() else "there is no checkpoint before it"
    raise UserError(
        f"{work.recipe.pretrain.method} collapsed in epoch {epoch}: all embeddings are alike (spread {value:.3f}, "
        f"below {COLLAPSED}); {kept}; {work.method.advice}"
    )


def concerns(state: dict[str, Any], method: Method, epochs: int, warmup: float) -> dict[str, str]:
    """What is wrong after the last of `state["rows"]`, by name: a sentence each with what to try.

    Args:
        state: "before", the probe of the starting weights, and "rows", the epochs so far.
        epochs: of the whole run.
        warmup: share of the run over which the learning rate rises.
    """
    first, last = state["rows"][0], state["rows"][-1]
    epoch, loss, found = last["epoch"], last["loss"], {}
    rank, began = last["rank"], (state["before"] or {}).get("rank")
    if rank is not None and rank < FEW_DIRECTIONS and (began is None or rank < began):
        found["rank"] = (
            f"after epoch {epoch} the features crowd along one line (effective rank {rank:.1f}, below "
            f"{FEW_DIRECTIONS:g}), a dimensional collapse; {method.advice}"
        )
    settled = epoch >= max(SETTLED, warmup) * epochs
    if method.chance is not None and settled and loss >= AT_CHANCE * method.chance:
        found["chance"] = (
            f"in epoch {epoch} the loss is {loss:.3f}, no better than answering without looking at the picture "
            f"({method.chance:.3f}); {method.advice}"
        )
    unwatched = method.chance is None and "spread" not in last
    if unwatched and epoch == epochs > 1 and loss >= FALLEN * first["loss"]:
        found["loss"] = f"the loss has not fallen, from {first['loss']:.4f} to {loss:.4f}; {method.advice}"
    return found
