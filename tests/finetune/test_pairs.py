"""Partners: of the same group and split, moved as the picture is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from ssl_defect.data.records import Sample
from ssl_defect.data.store import Store
from ssl_defect.errors import UserError
from ssl_defect.finetune.pairs import TrunkOptions, partners, pictures
from ssl_defect.finetune.views import show
from ssl_defect.train.pairs import golden_row, partner_rows


def store_of(groups: list[int], splits: str, tmp_path) -> Store:
    names = {"t": "train", "v": "val", "e": "test"}
    samples = [Sample(f"{i}.png", group=g, split=names[s]) for i, (g, s) in enumerate(zip(groups, splits, strict=True))]
    images = np.random.default_rng(0).integers(0, 256, (len(groups), 16, 16, 1), dtype=np.uint8)
    return Store(tmp_path, samples, images, None)


def test_partners_by_hand(tmp_path) -> None:
    groups = [7, 3, 7, 3, 7, 5, -1, -1, 7, 9]
    found = partner_rows(store_of(groups, "ttttvttttt", tmp_path))
    #        7: 0 -> 2 -> 8 -> 0 in training, 4 alone in validation; 3: 1 <-> 3; 5, 9 and those without a group: alone
    assert found.tolist() == [2, 3, 8, 1, 4, 5, 6, 7, 0, 9]


def test_partners_keep_group_and_split_and_every_row_is_one(tmp_path) -> None:
    rng = np.random.default_rng(1)
    groups, splits = rng.integers(-1, 12, 200), "".join(rng.choice(list("tve"), 200))
    store = store_of(groups.tolist(), splits, tmp_path)
    found = partner_rows(store)
    assert sorted(found.tolist()) == list(range(200))
    assert (groups[found] == groups).all()
    assert all(splits[a] == splits[b] for a, b in enumerate(found))
    assert (found[groups < 0] == np.flatnonzero(groups < 0)).all()
    sizes = {(g, s): sum((groups == g) & (np.array(list(splits)) == s)) for g in set(groups) for s in "tve"}
    alone = np.array([groups[i] < 0 or sizes[groups[i], splits[i]] == 1 for i in range(200)])
    assert ((found == np.arange(200)) == alone).all()


def test_no_partners_unless_asked_for(tmp_path) -> None:
    store = store_of([0, 0], "tt", tmp_path)
    assert partners(store, TrunkOptions()) is None
    read = partners(store, TrunkOptions(pair="group"))
    assert read is not None
    found = read(np.array([1, 0]))["partner"]
    assert torch.equal(found, torch.from_numpy(store.images[[0, 1]]).permute(0, 3, 1, 2))


def test_the_same_geometry_moves_picture_and_partner() -> None:
    image = torch.randint(0, 256, (8, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pair = pictures({"image": image, "partner": image})
    assert pair.shape == (8, 2, 16, 16)
    moved, _ = show(pair, None, TrunkOptions(), torch.Generator().manual_seed(1))
    torch.testing.assert_close(moved[:, 0], moved[:, 1])
    assert not torch.allclose(moved[:, 0], image[:, 0].float() / 255)
    assert torch.equal(pictures({"image": image}), image)


def test_colour_pairs_keep_the_picture_before_the_partner(make_case: Callable) -> None:
    image, partner = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.ones(2, 3, 4, 4, dtype=torch.uint8)
    assert pictures({"image": image, "partner": partner})[0, :, 0, 0].tolist() == [0, 0, 0, 1, 1, 1]


def test_the_golden_picture_is_good_typical_and_from_training(tmp_path) -> None:
    store = store_of([0] * 6, "tttttv", tmp_path)
    images = np.full((6, 16, 16, 1), 100, dtype=np.uint8)
    images[:, 0, 0] = np.array([90, 100, 101, 99, 160, 100])[:, None]
    samples = [replace(s, label=int(i == 1)) for i, s in enumerate(store.samples)]
    store = replace(store, images=images, samples=samples)  # median 100, and 1 of that is defective
    assert golden_row(store) in {2, 3}
    bad = replace(store, samples=[replace(s, label=1) for s in samples])
    with pytest.raises(UserError, match="golden needs a good training picture"):
        golden_row(bad)


def test_a_golden_detector_is_trained_with_the_picture_that_it_keeps(make_case: Callable, tmp_path) -> None:
    from ssl_defect.finetune.stage import finetune
    from ssl_defect.nets.detector import load_detector

    case = make_case(options={"pair": "golden"}, steps=4, eval_every=4)
    finetune(case.recipe, case.prepared, case.pretrained, tmp_path)
    kept, store = load_detector(tmp_path / "model.safetensors").head.pooled.trunk.golden, case.store
    row = golden_row(store)
    assert store.samples[row].split == "train"
    assert torch.equal(kept[0, 0], torch.from_numpy(np.array(store.images[row, ..., 0])))
    read = partners(store, TrunkOptions(pair="golden"))
    assert read is not None
    assert torch.equal(read(np.array([5, 7]))["partner"], kept[:, :1].expand(2, -1, -1, -1))
