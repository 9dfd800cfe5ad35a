"""Explanations against masks: the measures on maps made by hand, and the whole command in small."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

import where_it_looks as script

from ssl_defect.artifacts import read_json
from ssl_defect.evaluate import relevance
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.detector import Detector, Spec

MASK = np.zeros((1, 32, 32), np.uint8)
MASK[0, 8:16, 4:12] = 1
PIXELS = 64 / 1024  # the mask's share


def of(one: np.ndarray, near: int = 8) -> list[float]:
    return [float(values[0]) for values in script.measures(one[None], MASK, near).values()]


def test_the_mask_itself_is_found_and_its_inverse_is_not() -> None:
    mask = MASK[0].astype(np.float32)
    assert of(mask) == [1, 1, 1, 1]
    auroc, ap, pointing, nearby = of(1 - mask, 0)
    assert (auroc, pointing, nearby) == (0, 0, 0)
    assert ap == pytest.approx(PIXELS)  # two levels, and the mask is in the last


def test_a_map_of_one_value_tells_nothing() -> None:
    auroc, ap, pointing, nearby = of(np.full((32, 32), 0.3), 0)
    assert auroc == 0.5
    assert (ap, pointing, nearby) == pytest.approx((PIXELS, PIXELS, PIXELS))


@pytest.mark.parametrize(
    ("row", "column", "hit", "near"),
    [(8, 4, 1, 1), (15, 11, 1, 1), (16, 11, 0, 1), (19, 8, 0, 1), (20, 8, 0, 0), (31, 31, 0, 0)],
)
def test_the_pointing_game_asks_where_the_largest_value_is(row: int, column: int, hit: int, near: int) -> None:
    one = np.linspace(0, 0.5, 1024).reshape(32, 32)
    one[row, column] = 1
    assert of(one, 4)[2:] == [hit, near]


def test_half_of_the_largest_values_on_the_mask_is_half_a_hit() -> None:
    one = np.zeros((32, 32))
    one[10, 6] = one[30, 30] = 1
    assert of(one, 2)[2:] == [0.5, 0.5]


def test_an_image_without_a_defect_counts_for_nothing() -> None:
    masks = np.concatenate([MASK, np.zeros_like(MASK)])
    values = script.measures(np.random.default_rng(0).random(masks.shape), masks)
    assert all(np.isfinite(value).tolist() == [True, False] for value in values.values())


def test_means_follow_the_weights_of_the_images() -> None:
    family = script.means({"AUROC": np.array([1.0, 0.0, 0.5])})
    assert family(np.array([[1, 1, 1], [2, 0, 2], [0, 1, 0]]))["AUROC"].tolist() == [0.5, 0.75, 0.0]


def test_the_mask_in_places_is_its_mean_in_each() -> None:
    mask = np.zeros((1, 64, 64), np.uint8)
    mask[0, 16:32, 32:40] = 1  # half of the place in row 1, column 2
    found = script.in_places(mask, 16)[0]
    assert found.max() == pytest.approx(0.5 * (31 / 32) ** 2)  # half a pixel beside the middle of the place
    assert np.unravel_index(found.argmax(), found.shape)[0] // 16 == 1
    assert found[:, :16].max() == 0


def test_attention_alone_asks_nothing_of_what_the_net_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another head leaves it as it is, unlike relevance; and it is the product of the attentions, by hand."""
    torch.manual_seed(0)
    spec = Spec("classification", "test_vit", 64, 1, ["good", "defective"], {"dropout": 0.0})
    detector = Detector(build_encoder("test_vit", 64), spec).eval()
    x = torch.rand(2, 1, 64, 64)
    before, seen = script.attention_alone(detector, x), []
    blocks = relevance.attention_blocks(detector)
    with torch.no_grad(), relevance.exposed(detector, blocks) as (attentions, _):
        detector(x[:1])
        seen = [a[0].mean(0) for a in attentions]
    product = torch.eye(len(seen[0]))
    for attention in seen:
        product = (attention + torch.eye(len(attention))) / 2 @ product
    prefix = detector.encoder.body.num_prefix_tokens
    expected = relevance.enlarged(product[prefix:, prefix:].mean(0), 64)
    assert np.allclose(before[0], expected, atol=1e-4)
    for parameter in detector.head.parameters():
        torch.nn.init.normal_(parameter)
    assert np.array_equal(script.attention_alone(detector, x), before)


def test_the_command_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    small = "--size 32 --good 20 --defective 10 --steps 2 2 --images 4 --least 0"
    monkeypatch.setattr(sys, "argv", ["where_it_looks.py", *small.split(), "--out", str(tmp_path)])
    script.main()
    found = read_json(tmp_path / "where_it_looks.json")["runs"]
    assert list(found) == ["test_vit, blobs", "test_resnet, blobs"]
    vit, cnn = (found[name]["explanations"] for name in found)
    assert set(vit) - set(cnn) == {"relevance", "relevance, random weights", "attention without gradients"}
    assert all(set(values) == set(script.MEASURES) for values in vit.values())
    assert vit["noise"] == cnn["noise"]
    assert vit["the mask in places"]["AUROC"]["value"] > vit["noise"]["AUROC"]["value"]
    printed = capsys.readouterr().out
    assert printed.count("| test_vit, blobs |") == 8 + 6
    assert (tmp_path / "where_it_looks.md").read_text(encoding="utf-8") == printed


def test_the_defect_is_dark_and_a_good_picture_has_none() -> None:
    for number in range(5):
        picture, mask = script.blobs.draw(np.random.default_rng(number), 64, True)
        assert set(np.unique(mask)) == {0, 255}
        assert picture[mask > 0].mean() < picture[mask == 0].mean() - 0.2 * 255
        assert not script.blobs.draw(np.random.default_rng(number), 64, False)[1].any()
