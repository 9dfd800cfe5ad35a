"""The encoder that fine-tuning started from, and what its features tell beside those of the finished detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ssl_defect.console import say
from ssl_defect.errors import UserError
from ssl_defect.evaluate.neighbours import NEIGHBOURS, neighbour_auroc
from ssl_defect.evaluate.results import Results
from ssl_defect.nets.backbones import Encoder, build_encoder
from ssl_defect.nets.weights import load_encoder_file

ENCODER = "encoder.safetensors"
ROUNDING = 1e-5  # relative; an average over the steps of weights that never changed differs from them by less


def starting_encoder(detector: nn.Module, pretrained: Path) -> Encoder | None:
    """The encoder in the folder `pretrained`, which the detector's own was made from; on the CPU and in eval mode.

    None where there is nothing to compare: the detector has no encoder or left it as it was (frozen, or of good
    images alone), or the file is missing, damaged or of another backbone.
    """
    made, file = getattr(detector, "encoder", None), pretrained / ENCODER
    if not isinstance(made, Encoder) or not file.is_file():
        return None
    with torch.random.fork_rng(devices=[]):  # its random weights are replaced at once
        before = build_encoder(made.name, made.image_size)
    try:
        load_encoder_file(before, file)
    except UserError as error:
        say(f"evaluate: nothing from before fine-tuning is shown ({error})")
        return None
    return None if _same(before, made) else before.eval()


def _same(before: Encoder, after: Encoder) -> bool:
    ours, theirs = before.state_dict(), after.state_dict()
    return all(torch.allclose(ours[name], theirs[name], rtol=ROUNDING) for name in ours.keys() & theirs.keys())


def told_by_neighbours(results: Results) -> dict[str, Any] | None:
    """`neighbours` of metrics.json: `neighbour_auroc` of the test images' features before and after fine-tuning.

    None where there are no features from before.
    """
    found = results.found
    if found.features_before is None:
        return None
    before, after = (
        neighbour_auroc(features[results.split :], results.labels, results.groups)
        for features in (found.features_before, found.features)
    )
    return {"k": NEIGHBOURS, "images": len(results.test), "before": before, "after": after}
