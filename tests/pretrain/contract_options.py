"""Options under which the contract holds a method to account at 32 pixels; the defaults where nothing is given."""

from __future__ import annotations

from typing import Any

OPTIONS: dict[str, dict[str, Any]] = {
    "simclr": {},
    "moco_v2": {"queue": 16, "temperature": 0.07},  # full after a step: while a queue fills, the loss rises
    "moco_v3": {},
    "swav": {},
    "dino": {},
    "byol": {},
    "vicreg": {},
    "densecl": {"queue": 16, "temperature": 0.07, "flips": False, "turns": False},  # four cells to a picture
    "mae": {},
    "simmim": {},
    "beit": {},
    "inpainting": {},
    "colorization": {"crop": (1.0, 1.0)},
    "rotation": {},
    "jigsaw": {"permutations": 8},
    "context": {"crop": (1.0, 1.0), "patch": 0.25, "gap": 0.25, "jitter": 0.1},
    "cutpaste": {"jitter": 0.9, "area": (0.1, 0.3)},
    "nsa": {"decoder_width": 8},
    "defect_seg": {"decoder_width": 8},
}
# how far the loss is to fall in 60 steps, where 0.95 of its beginning is too much
LEAST_FALL: dict[str, float] = {"swav": 0.97}
