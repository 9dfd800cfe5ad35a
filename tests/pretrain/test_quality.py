"""PSNR and SSIM against torchmetrics and by hand."""

from __future__ import annotations

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from ssl_defect.pretrain.quality import WATCHED, psnr, quality, ssim


def pair(channels: int = 1, noise: float = 0.1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(0.2, 0.8, 40, dtype=torch.float64)
    picture = (ramp[:, None] * ramp[None, :]).expand(3, channels, 40, 40)
    return picture, picture + noise * torch.randn(picture.shape, generator=generator, dtype=torch.float64)


def test_psnr_by_hand() -> None:
    one = torch.zeros(2, 1, 4, 4)
    two = torch.stack([torch.full((1, 4, 4), 0.1), torch.full((1, 4, 4), 0.01)])
    assert float(psnr(one, two)) == pytest.approx((20 + 40) / 2, abs=1e-4)
    assert float(psnr(one, one)) == pytest.approx(100)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
def test_psnr_and_ssim_are_torchmetrics(channels: int, noise: float) -> None:
    one, two = pair(channels, noise)
    each = [peak_signal_noise_ratio(b, a, data_range=1.0) for a, b in zip(one, two, strict=True)]
    torch.testing.assert_close(psnr(one, two), torch.stack(each).mean(), rtol=1e-6, atol=0)
    _, maps = structural_similarity_index_measure(two, one, data_range=1.0, return_full_image=True)
    whole_windows = maps[:, :, 5:-5, 5:-5]  # those at the border it fills up by reflection
    torch.testing.assert_close(ssim(one, two), whole_windows.mean(), rtol=1e-6, atol=0)


def test_ssim_of_a_picture_with_itself_and_of_two_greys() -> None:
    one, _ = pair()
    assert float(ssim(one, one)) == pytest.approx(1)
    black, grey = torch.zeros(1, 1, 16, 16), torch.full((1, 1, 16, 16), 0.5)
    assert float(ssim(black, grey)) == pytest.approx(1e-4 / (0.25 + 1e-4), rel=1e-4)  # eq. 13 with no variance at all


def test_only_hidden_pixels_count() -> None:
    one = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    where = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
    where[:, :, 8:16] = True
    assert float(psnr(one, one.masked_fill(~where, 0.0), where)) == pytest.approx(100)
    assert float(psnr(one, torch.where(where, one + 0.1, 0.0), where)) == pytest.approx(20, abs=1e-3)
    far = one.clone()
    far[:, :, 24:] = 0  # no window around a counted pixel reaches these
    assert float(ssim(one, far, where)) == pytest.approx(1, abs=1e-6)
    assert float(ssim(one, far)) < 0.99


def test_a_step_s_health_is_of_the_first_pictures_without_gradient_in_float32() -> None:
    one = torch.rand(WATCHED + 2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    two, where = (one * 0.9).requires_grad_(), torch.ones(WATCHED + 2, 1, 32, 32, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        health = quality(two, one, where)
    assert not any(value.requires_grad for value in health.values())
    few = slice(WATCHED)
    assert torch.equal(health["psnr"], psnr(two[few].detach(), one[few]))
    assert torch.equal(health["ssim"], ssim(two[few].detach(), one[few]))
