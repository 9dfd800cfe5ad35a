"""Options that tasks share besides the views: attention, and a second picture to compare with."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ssl_defect.data.store import Store
from ssl_defect.finetune.task import Batch, Task
from ssl_defect.finetune.views import Views
from ssl_defect.nets.detector import Detector
from ssl_defect.nets.trunk import Trunk
from ssl_defect.train.batches import Extras, Rows
from ssl_defect.train.pairs import golden_row, partner_rows


class TrunkOptions(Views):
    """Views, and what stands between encoder and head."""

    attention: Literal["none", "se", "cbam"] = Field(
        "none",
        description="Attention on the encoder's maps: `se` weighs channels (squeeze-and-excitation), `cbam` channels "
        "and places.",
    )
    pair: Literal["none", "group", "golden"] = Field(
        "none",
        description="Cross-attention to a second picture. `group`: another one of the same near-copy group and split, "
        "such as another exposure; a picture without one is its own. `golden`: the most typical good training picture, "
        "which the detector keeps.",
    )


class PairTask(Task):
    """A task that can be given pairs."""

    @staticmethod
    def extras(store: Store, options: TrunkOptions) -> Extras | None:  # type: ignore[override]
        """ "partner" for pairs."""
        return partners(store, options)


def partners(store: Store, options: TrunkOptions) -> Extras | None:
    """What gives a batch its "partner", uint8 (B, C, S, S); None without pairs."""
    if options.pair == "none":
        return None
    golden = options.pair == "golden"
    others = np.full(len(store.samples), golden_row(store)) if golden else partner_rows(store)

    def read(rows: Rows) -> dict[str, Tensor]:
        return {"partner": torch.from_numpy(store.images[others[rows]]).permute(0, 3, 1, 2)}

    return read


def keep_golden(detector: Detector, store: Store) -> None:
    """Give a detector that compares with a golden picture that picture."""
    for module in detector.head.modules():
        if isinstance(module, Trunk) and module.golden is not None:
            picture = np.array(store.images[golden_row(store)])
            module.golden.copy_(torch.from_numpy(picture).permute(2, 0, 1).expand_as(module.golden))


def pictures(batch: Batch) -> Tensor:
    """uint8 (B, C, S, S), or (B, 2C, S, S) with the partner behind the picture."""
    return torch.cat([batch["image"], batch["partner"]], dim=1) if "partner" in batch else batch["image"]
