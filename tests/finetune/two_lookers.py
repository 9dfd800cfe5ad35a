"""Fine-tunes under however many processes there are, each of which sees other validation values; started by
test_finetune_processes.py.

Usage: two_lookers.py RECIPE PREPARED PRETRAINED OUT

Every process leaves what it decided by its looks in `OUT/process-RANK.json`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from ssl_defect.config import load_recipe
from ssl_defect.finetune import stage, training
from ssl_defect.finetune.classification import Classification
from ssl_defect.finetune.task import Validation

RANK = int(os.environ["RANK"])
SEEN = [iter([0.5, 0.6, *[0.4] * 50]), iter([0.1 + 0.01 * look for look in range(50)])][RANK]


def main(recipe: str, prepared: str, pretrained: str, out: str) -> None:
    Classification.validation = lambda self, batches: Validation("AUROC", next(SEEN), 1.0)  # type: ignore[method-assign]
    train = training.train

    def told(work: training.Work, fabric: Any) -> dict[str, Any]:
        state = train(work, fabric)
        kept = {name: state[name] for name in ("best", "since_best", "plateau")}
        kept["seen"] = [[row["validation"], row["learning_rate"]] for row in state["history"]]
        (work.out / f"process-{RANK}.json").write_text(json.dumps(kept), encoding="utf-8")
        fabric.barrier()
        return state

    stage.train = told  # type: ignore[attr-defined]
    stage.finetune(load_recipe(recipe), Path(prepared), Path(pretrained), Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
