"""A decoder taught by drawn defects: grey and colour, small and large, gradients, refusals."""

from __future__ import annotations

import pytest
import torch
from fitting import SIZE, encoder, fitted, options_of, parts, train
from torch import Tensor
from torch.nn import functional as F

from ssl_defect.errors import UserError
from ssl_defect.nets.anomaly.synthetic import LIFT, Synthetic
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.mask_losses import binary_focal_loss, dice_loss


def fresh(body: Encoder, good: Tensor | None = None, **more: object) -> Synthetic:
    torch.manual_seed(0)
    head = Synthetic(body, options_of("synthetic", **more))
    shown = parts() if good is None else good
    with torch.no_grad():
        head.fit(body, lambda: iter(shown.split(7)), 0)
    return head


def test_the_loss_is_that_of_the_masks_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    body = encoder()
    head = fresh(body, dice=2.0, focal=3.0)
    x, masks = parts(4, 2, spot=True), torch.zeros(4, 1, SIZE, SIZE)
    masks[:, :, 20:26, 8:14] = 1
    monkeypatch.setattr("ssl_defect.nets.anomaly.synthetic.draw_defects", lambda *_: (x, masks))
    found = head.loss(body, parts(4, 2), torch.Generator())
    logits = head.logits(body, x)
    dice, focal = dice_loss(logits, masks), binary_focal_loss(logits, masks)
    assert found["loss"].item() == pytest.approx((2 * dice + 3 * focal).item(), rel=1e-5)
    assert found["dice"].item() == pytest.approx(dice.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("backbone", "decoder"), [("test_resnet", "unet"), ("test_resnet", "fpn"), ("test_vit", "unet")]
)
def test_the_loss_falls_and_gradients_reach_the_head_alone(backbone: str, decoder: str) -> None:
    body = encoder(backbone)
    before = [value.clone() for value in body.state_dict().values()]
    head = fresh(body, decoder=decoder, steps=30)
    losses = train(head, body, parts())
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])
    assert all(torch.equal(a, b) for a, b in zip(before, body.state_dict().values(), strict=True))
    assert all(p.grad is None for p in body.parameters())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in head.parameters())
    assert sum(float(p.grad.abs().sum() > 0) for p in head.parameters() if p.grad is not None) > 0.9 * len(
        list(head.parameters())
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_the_map_is_highest_at_spots_of_four_pixels_and_of_hundreds(channels: int) -> None:
    body = encoder()
    good = parts().repeat(1, channels, 1, 1)
    head = fresh(body, good, steps=70)
    train(head, body, good)
    x = parts(3, 1).repeat(1, channels, 1, 1)
    x[0, :, 10:12, 20:22] += 0.45
    x[1, :, 2:20, 4:20] -= 0.4
    x[2, :, 28:, :4] += 0.45
    with torch.no_grad():
        clean = head(body, parts(3, 1).repeat(1, channels, 1, 1))
        found = head(body, x)
    assert found["distances"].shape == (3, SIZE, SIZE)
    row, column = divmod(int(found["distances"][0].argmax()), SIZE)
    assert 8 <= row <= 13
    assert 18 <= column <= 23
    assert found["distances"][1, 4:18, 6:18].mean() > found["distances"][1, 22:, 22:].mean() + 1
    row, column = divmod(int(found["distances"][2].argmax()), SIZE)
    assert row >= 28
    assert column <= 3
    assert found["distance"].min() > clean["distance"].max()


def test_a_distance_is_above_0_keeps_the_order_and_the_images_is_the_largest_of_3_by_3() -> None:
    body = encoder()
    head = fresh(body).eval()
    with torch.no_grad():
        x = parts(2, 3, spot=True)
        logits, found = head.logits(body, x)[:, 0], head(body, x)
    assert torch.allclose(found["distances"], torch.log1p(torch.exp(logits + LIFT)), rtol=1e-4)
    kernel = torch.ones(1, 1, 3, 3)
    sums, counts = (F.conv2d(v[:, None], kernel, padding=1) for v in (found["distances"], torch.ones_like(logits)))
    assert torch.allclose(found["distance"], (sums / counts).flatten(1).amax(dim=1), rtol=1e-4)


def test_mistakes_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="two rising numbers"):
        options_of("synthetic", area=(0.3, 0.1))
    body = encoder()
    with torch.no_grad():
        next(body.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="not finite"):
        fresh(body)


def test_the_decoders_own_refusal_names_this_section(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise UserError("finetune.options.decoder: 'unet' needs 2 maps of a backbone")

    monkeypatch.setattr("ssl_defect.nets.anomaly.synthetic.build_decoder", refuse)
    with pytest.raises(UserError, match=r"^anomaly\.options\.decoder: "):
        Synthetic(encoder(), options_of("synthetic"))


def test_defects_at_the_least_size_are_pixels() -> None:
    head = fitted("synthetic", encoder(), steps=1, kinds=("spot",), most=1, good=0.0)
    assert isinstance(head, Synthetic)
    from ssl_defect.data.defects import draw_defects

    masks = draw_defects(parts(24).repeat(4, 1, 1, 1), torch.Generator().manual_seed(0), head.look)[1]
    sizes = masks.flatten(1).sum(dim=1)
    assert sizes.min() <= 5
    assert sizes.min() >= 1
