"""Runs the pretraining stage with a checkpoint after every epoch; started, and killed, by test_pretrain_processes.py.

Usage: killed_stage.py PREPARED OUT METHOD BACKBONE [OPTIONS, as JSON]
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from striped_parts import make_recipe

from ssl_defect.pretrain import training
from ssl_defect.pretrain.stage import pretrain

if __name__ == "__main__":
    make_plan = training.make_plan
    training.make_plan = lambda *given: replace(make_plan(*given), save_every=0)
    prepared, out, method, backbone, *rest = sys.argv[1:]
    options = json.loads(rest[0]) if rest else {}
    pretrain(make_recipe(method, backbone, epochs=12, options=options), Path(prepared), Path(out))
