"""PatchCore's memory: which patches it keeps, how it is searched, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fitting import COUNT, encoder, fitted, options_of, parts
from torch import Tensor

from ssl_defect.errors import UserError
from ssl_defect.nets.anomaly.patchcore import FARTHEST, PatchCore, rows_of
from ssl_defect.nets.anomaly.patches import patch_features
from ssl_defect.nets.backbones import Encoder


def memory(body: Encoder, **more: Any) -> PatchCore:
    head = fitted("patchcore", body, **more)
    assert isinstance(head, PatchCore)
    return head


def found(head: PatchCore, body: Encoder, x: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        return head(body, x)


def test_cells_hold_the_same_memory_and_probing_all_gives_what_an_exact_search_gives() -> None:
    body, x = encoder(), parts(4, 1, spot=True)
    exact, cells = memory(body, search="exact"), memory(body, search="cells", probes=1000)
    assert exact.edges.tolist() == [0, len(exact.bank)]
    assert len(cells.centres) == round(2 * len(cells.bank) ** 0.5)
    assert sorted(cells.bank.tolist()) == sorted(exact.bank.tolist())
    assert cells.edges[-1] == len(cells.bank)
    for cell, (low, high) in enumerate(zip(cells.edges[:-1], cells.edges[1:], strict=True)):
        near = torch.cdist(cells.bank[low:high], cells.centres).argmin(dim=1)
        assert (near == cell).float().mean() > 0.9 or low == high
    one, two = found(exact, body, x), found(cells, body, x)
    for key in one:
        assert torch.allclose(one[key], two[key], rtol=1e-4)


def test_few_probes_are_never_nearer_and_the_score_is_hardly_another() -> None:
    body, x = encoder(), parts(8, 1, spot=True)
    exact = found(memory(body, search="exact"), body, x)
    cells = found(memory(body, search="cells", probes=2), body, x)
    ratio = cells["distances"] / exact["distances"]
    assert ratio.min() > 1 - 1e-4
    assert 1e-6 < ratio.mean() - 1 < 0.05
    assert (cells["distance"] / exact["distance"] - 1).abs().max() < 0.02


def test_the_farthest_patches_are_looked_for_in_more_cells() -> None:
    body, x = encoder(), parts(2, 3)
    head = memory(body, search="cells", probes=1)
    with torch.no_grad():
        patches = patch_features(body, x, head.levels).permute(0, 2, 3, 1).flatten(1, 2)
        near, place = (value.view(2, -1) for value in head._nearest(patches.flatten(0, 1), 1))
        again, better = head._again(patches, near, place)
    far = near.topk(FARTHEST, dim=1).indices
    others = torch.ones_like(near, dtype=torch.bool).scatter(1, far, False)
    assert torch.equal(again[others], near[others])
    assert (again <= near + 1e-6).all()
    assert (again < near - 1e-3).any()
    assert torch.allclose((patches - head.bank[better]).norm(dim=2), again, atol=1e-5)


def test_auto_takes_cells_for_a_large_memory_alone() -> None:
    body = encoder()
    for share, pictures, cells in ((0.2, 24, 1), (1.0, 64, 1), (1.0, 65, 129)):
        asked = options_of("patchcore", share=share)
        sizes = PatchCore.measured(body, asked, pictures)
        assert sizes == {"memory": round(share * pictures * 64), "cells": cells}
        assert PatchCore(body, asked | sizes).by_cells == (cells > 1)


def test_rows_of_parts_as_if_they_were_joined() -> None:
    whole = np.arange(60, dtype=np.float32).reshape(20, 3)
    cut = [whole[:7], whole[7:8], whole[8:]]
    for rows in ([0, 6, 7, 8, 19], [9], [7], [0, 1]):
        assert np.array_equal(rows_of(cut, np.array(rows)), whole[rows])


def test_the_memory_holds_patches_of_the_pictures() -> None:
    body = encoder()
    head = memory(body, search="cells")
    with torch.no_grad():
        patches = patch_features(body, parts(), head.levels).permute(0, 2, 3, 1).flatten(0, 2)
    assert torch.cdist(head.bank, patches).min(dim=1).values.max() < 1e-3
    assert torch.allclose(head.squares[:, 0], head.bank.square().sum(dim=1))


@pytest.mark.parametrize("name", ["patchcore", "padim"])
def test_features_that_are_no_numbers_are_refused(name: str) -> None:
    body = encoder()
    with torch.no_grad():
        next(body.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="no finite numbers"):
        fitted(name, body)


def test_more_neighbours_than_the_memory_has() -> None:
    body, x = encoder(), parts(2, 2)
    head = memory(body, share=2 / (COUNT * 64), neighbours=9, search="cells")
    assert len(head.bank) == 2
    assert torch.isfinite(found(head, body, x)["distance"]).all()
