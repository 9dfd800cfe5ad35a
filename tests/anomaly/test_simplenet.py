"""SimpleNet: its loss by hand, its noise, what learns and what does not."""

from __future__ import annotations

import copy

import pytest
import torch
from fitting import encoder, fitted, options_of, parts, train
from torch import Tensor

from ssl_defect.errors import UserError
from ssl_defect.nets.anomaly import discriminator
from ssl_defect.nets.anomaly.discriminator import gaussian
from ssl_defect.nets.anomaly.patches import patch_features
from ssl_defect.nets.anomaly.simplenet import SimpleNet, truncated_l1
from ssl_defect.nets.backbones import Encoder


def fresh(body: Encoder, **more: object) -> SimpleNet:
    torch.manual_seed(0)
    head = SimpleNet(body, options_of("simplenet", **more))
    with torch.no_grad():
        head.fit(body, lambda: iter(parts().split(7)), 0)
    return head


def test_truncated_l1_by_hand() -> None:
    good, noisy = truncated_l1(torch.tensor([2.0, 0.5, 0.0, -1.0]), torch.tensor([-0.5, -3.0, 0.0, 0.25]), 0.5)
    assert good.item() == pytest.approx((0 + 0 + 0.5 + 1.5) / 4)
    assert noisy.item() == pytest.approx((0 + 0 + 0.5 + 0.75) / 4)


def test_the_loss_is_that_of_good_and_noisy_patches_and_a_patch_beyond_the_margin_teaches_nothing() -> None:
    body = encoder()
    head = fresh(body).eval()  # eval: the norm's statistics are not those of the batch
    x, draw = parts(3, 1), torch.Generator()
    found = head.loss(body, x, draw.manual_seed(5))
    with torch.no_grad():
        good = head.net.adapted(body, x).flatten(0, 1)
        noisy = good + 0.5 * torch.randn(good.shape, generator=draw.manual_seed(5))
        expected = [(0.5 + sign * head.net.judge(f)).clamp_min(0).mean() for f, sign in ((good, 1), (noisy, -1))]
    assert found["loss"].item() == pytest.approx(sum(expected).item(), rel=1e-5)
    assert [found["good"].item(), found["noisy"].item()] == pytest.approx([e.item() for e in expected], rel=1e-5)
    far = torch.tensor([3.0], requires_grad=True)
    truncated_l1(far, -far, 0.5)[0].backward()
    assert far.grad is not None
    assert far.grad.item() == 0


def test_noise_has_the_deviation_asked_for_and_is_white() -> None:
    noise = gaussian(torch.zeros(20_000, 6), 0.3, torch.Generator().manual_seed(0))
    assert noise.mean(dim=0).abs().max() < 0.01
    assert noise.std(dim=0).numpy() == pytest.approx([0.3] * 6, rel=0.02)
    correlation = torch.corrcoef(noise.T) - torch.eye(6)
    assert correlation.abs().max() < 0.03
    again = gaussian(torch.zeros(20_000, 6), 0.3, torch.Generator().manual_seed(0))
    assert torch.equal(noise, again)


def test_features_come_at_unit_scale_whatever_the_encoder_gives() -> None:
    body = encoder()
    head = fresh(body)
    with torch.no_grad():
        scaled = head.net.scaling(patch_features(body, parts(), head.net.levels))
        assert scaled.mean(dim=(0, 2, 3)).abs().max() < 1e-3
        assert scaled.std(dim=(0, 2, 3)).median() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("backbone", ["test_resnet", pytest.param("test_vit", marks=pytest.mark.newest_timm)])
def test_the_loss_falls_and_the_encoder_stays(backbone: str) -> None:
    body = encoder(backbone)
    before = copy.deepcopy(body.state_dict())
    head = fresh(body)
    losses = train(head, body, parts())
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    assert all(torch.equal(value, before[name]) for name, value in body.state_dict().items())
    assert all(p.grad is None for p in body.parameters())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


def test_the_map_is_highest_where_features_were_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    body = encoder()
    head = fitted("simplenet", body, steps=200)
    places = [(0, 0), (5, 2), (7, 7)]

    def disturbed(encoder: Encoder, x: Tensor, levels: list[int]) -> Tensor:
        features = patch_features(encoder, x, levels)
        draw = torch.Generator().manual_seed(3)
        for i, (row, column) in enumerate(places):
            features[i, :, row, column] += 2 * head.net.scaling.std * torch.randn(features.shape[1], generator=draw)
        return features

    with torch.no_grad():
        good = head(body, parts(3, 7))
        monkeypatch.setattr(discriminator, "patch_features", disturbed)
        bad = head(body, parts(3, 7))
    assert [divmod(int(one.argmax()), 8) for one in bad["distances"]] == places
    assert bad["distance"].min() > good["distance"].max()
    assert torch.equal(bad["distance"], bad["distances"].flatten(1).amax(dim=1))
    assert all((found["distances"] > 0).all() for found in (good, bad))


def test_damaged_weights_are_refused_and_nan_does_not_pass() -> None:
    body = encoder()
    head = fitted("simplenet", body)
    with torch.no_grad():
        x = parts(2)
        x[1, 0, 3, 3] = torch.nan
        found = head.predict(head(body, x))["score"]
        assert torch.isfinite(found[0])
        assert torch.isnan(found[1])
        next(body.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="not finite"):
        fresh(body)
