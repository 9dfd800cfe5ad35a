"""Runs the fine-tuning stage with a checkpoint after every look; started, and killed, by test_finetune_stage.py.

Usage: killed_finetuning.py RECIPE PREPARED PRETRAINED OUT
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from ssl_defect.config import load_recipe
from ssl_defect.finetune import training
from ssl_defect.finetune.stage import finetune
from ssl_defect.train.loop import Plan

if __name__ == "__main__":
    training.Plan = lambda *given, **named: replace(Plan(*given, **named), save_every=0.0)
    recipe, prepared, pretrained, out = map(Path, sys.argv[1:])
    finetune(load_recipe(recipe), prepared, pretrained, out)
