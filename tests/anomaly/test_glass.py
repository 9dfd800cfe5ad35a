"""GLASS: noise that climbs and is projected, cells of drawn defects, what learns."""

from __future__ import annotations

import pytest
import torch
from fitting import encoder, fitted, options_of, parts, train
from torch.nn import functional as F

from ssl_defect.nets.anomaly.glass import GLASS, cells, truncated
from ssl_defect.nets.backbones import Encoder


def fresh(body: Encoder, **more: object) -> GLASS:
    torch.manual_seed(0)
    head = GLASS(body, options_of("glass", **more))
    with torch.no_grad():
        head.fit(body, lambda: iter(parts().split(7)), 0)
    return head


def test_the_projection_keeps_directions_and_bounds_lengths() -> None:
    away = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.9, 1.2], [0.0, 0.0]])
    found = truncated(away, 1.0)
    assert torch.allclose(found, torch.tensor([[1.2, 1.6], [0.6, 0.8], [0.9, 1.2], [0.0, 0.0]]))


def test_a_cell_is_defective_where_one_pixel_is() -> None:
    masks = torch.zeros(2, 1, 32, 32)
    masks[0, 0, 31, 4] = 1
    found = cells(masks, 8)
    assert found.shape == (2, 8, 8)
    assert found.nonzero().tolist() == [[0, 7, 1]]


def test_noise_climbs_its_loss_by_steps_of_the_length_asked_for() -> None:
    body = encoder()
    head = fresh(body, ascents=1, ascent=0.1).eval()  # eval: a patch is judged by itself
    good = head.net.adapted(body, parts(2, 1)).flatten(0, 1).detach()
    noisy = good + 0.5 * torch.randn(good.shape, generator=torch.Generator().manual_seed(0))
    climbed = head.climbed(good, noisy)
    assert not climbed.requires_grad
    assert (climbed - noisy).norm(dim=1).numpy() == pytest.approx(0.1 * head.radius, rel=1e-3)
    with torch.no_grad():
        before, after = (F.softplus(-head.net.judge(f)) for f in (noisy, climbed))
    assert (after > before).float().mean() > 0.95
    assert torch.equal(fresh(body, ascents=0).climbed(good, noisy), noisy)
    assert all(p.grad is None for p in head.parameters())  # climbing teaches nothing


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
def test_the_loss_falls_and_gradients_reach_the_head_alone(backbone: str) -> None:
    body = encoder(backbone)
    before = [value.clone() for value in body.state_dict().values()]
    head = fresh(body, steps=60, ascents=1)
    losses = train(head, body, parts())
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])
    assert all(torch.equal(a, b) for a, b in zip(before, body.state_dict().values(), strict=True))
    assert all(p.grad is None for p in body.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


def test_the_same_seed_gives_the_same_loss() -> None:
    body = encoder()
    draw = torch.Generator()
    found = [fresh(body).loss(body, parts(4), draw.manual_seed(seed))["loss"].item() for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_the_map_is_highest_at_a_planted_spot() -> None:
    body = encoder()
    head = fitted("glass", body)
    with torch.no_grad():
        bad = head(body, parts(8, 1, spot=True))["distances"].mean(dim=0)  # 8 x 8 cells, the spot over rows 5 and 6
    row, column = divmod(int(bad.argmax()), 8)
    assert 4 <= row <= 7
    assert 1 <= column <= 4
