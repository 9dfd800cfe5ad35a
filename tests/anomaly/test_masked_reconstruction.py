"""Masks that hide every patch, paintings that know nothing of what is hidden, and what is refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from fitting import SIZE, encoder, fitted, options_of, parts, train
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from ssl_defect.errors import UserError
from ssl_defect.nets.anomaly.masked import MaskedAutoencoder, complementary, patch_of
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.patches import cover

NAME = "mae"
BACKBONES = ("test_resnet", "test_vit")


def untrained(backbone: str = "test_resnet", **more: Any) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(encoder(backbone), options_of(NAME, **more)).eval()


@settings(max_examples=60, deadline=None)
@given(number=st.integers(4, 70), passes=st.integers(2, 12), more=st.integers(0, 8), seed=st.integers(0, 3))
def test_together_the_masks_hide_every_patch(number: int, passes: int, more: int, seed: int) -> None:
    orders = complementary(number, passes, seed)
    assert all(sorted(order.tolist()) == list(range(number)) for order in orders)
    hidden = min(-(-number // passes) + more, number)
    assert set(orders[:, -hidden:].flatten().tolist()) == set(range(number))


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize(("ratio", "passes"), [(0.5, 2), (0.34, 3), (0.75, 4), (0.1, 10), (0.5, 5)])
def test_every_pixel_is_hidden_at_least_once(backbone: str, ratio: float, passes: int) -> None:
    head, x = untrained(backbone, mask_ratio=ratio, passes=passes), parts(2)
    body = encoder(backbone)
    hidden = torch.stack([head.painted(body, x, order.expand(2, -1))[1] for order in head.orders])
    assert hidden.any(dim=0).all()
    assert not hidden.all(dim=(2, 3, 4)).any()
    rebuilt = head.rebuilt(body, x)
    assert rebuilt.shape == x.shape
    assert torch.isfinite(rebuilt).all()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_what_is_hidden_has_no_part_in_its_painting(backbone: str) -> None:
    head, body, x = untrained(backbone), encoder(backbone), parts(2)
    order = head.orders[0].expand(2, -1)
    with torch.no_grad():
        painted, hidden = head.painted(body, x, order)
        other = torch.where(hidden, torch.rand(x.shape), x)
        again, _ = head.painted(body, other, order)
        seen, _ = head.painted(body, torch.where(hidden, x, torch.rand(x.shape)), order)
    assert torch.equal(painted, again)
    assert not torch.allclose(painted, seen)  # and what is seen has


def test_the_rebuilt_picture_is_the_mean_of_what_was_painted_while_hidden() -> None:
    head, body, x = untrained(passes=3, mask_ratio=0.5), encoder(), parts(1)
    with torch.no_grad():
        found = head.rebuilt(body, x)[0, 0]
        single = [head.painted(body, x, order[None]) for order in head.orders]
    for row, column in ((0, 0), (13, 20), (31, 31)):
        values = [painted[0, 0, row, column] for painted, hidden in single if hidden[0, 0, row, column]]
        assert values
        assert found[row, column].item() == pytest.approx(torch.stack(values).mean().item(), rel=1e-5)


def test_hidden_pixels_are_those_of_the_last_patches_and_hold_the_mean_of_good_parts() -> None:
    head, body = untrained(patch=8), encoder()
    good = torch.cat([parts(5), parts(2, 1, spot=True)])
    with torch.no_grad():
        head.fit(body, lambda: iter(good.split(4)), 0)
    assert torch.allclose(head.fill, good.mean().view(1, 1, 1, 1).expand(1, 3, 1, 1))
    shown: list[Tensor] = []
    head.painter.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[1]))
    x, order = parts(1), torch.arange(16)[None]
    hidden = head.painted(body, x, order)[1]
    assert torch.equal(hidden, cover(torch.arange(16)[None] >= 8, 8))  # half of them: the lower half of the picture
    assert torch.equal(shown[0][0, :, :16], x[0, :, :16].expand(3, -1, -1))
    assert torch.equal(shown[0][0, :, 16:], head.fill[0].expand(3, 16, 32))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_loss_is_over_hidden_pixels_it_falls_and_nothing_but_the_head_moves(backbone: str) -> None:
    body = encoder(backbone)
    before = copy.deepcopy(body.state_dict())
    head, x = untrained(backbone), parts(3)
    with torch.no_grad():
        loss = head.loss(body, x, torch.Generator().manual_seed(1))["loss"]
        order = torch.rand(3, head.orders.shape[1], generator=torch.Generator().manual_seed(1)).argsort(dim=1)
        painted, hidden = head.painted(body, x, order)
    assert loss.item() == pytest.approx((x - painted)[hidden].square().mean().item(), rel=1e-5)
    losses = train(head, body, parts())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert all(torch.equal(value, before[name]) for name, value in body.state_dict().items())
    assert all(p.grad is None for p in body.parameters())
    assert all(p.grad is not None for p in head.parameters())


@pytest.mark.parametrize("error", ["l2", "ssim"])
def test_the_map_rises_at_the_spot(error: str) -> None:
    body = encoder()
    head = fitted(NAME, body, error=error)
    with torch.no_grad():
        good, bad = (head(body, parts(8, 1, spot))["distances"].mean(dim=0) for spot in (False, True))
    rise = bad - good  # the same noise in both
    inside, outside = rise[20:26, 8:14], rise[:14, 18:]
    assert inside.mean() > 5 * outside.abs().mean()
    row, column = divmod(int(rise.argmax()), SIZE)
    assert 18 <= row < 28
    assert 6 <= column < 16


def test_masks_are_fixed_by_their_seed_and_kept_in_the_file() -> None:
    one, same, other = untrained(), untrained(), untrained(mask_seed=1)
    assert torch.equal(one.orders, same.orders)
    assert not torch.equal(one.orders, other.orders)
    other.load_state_dict(one.state_dict())
    body, x = encoder(), parts(2)
    with torch.no_grad():
        expected = one(body, x)["distance"]
        torch.manual_seed(99)
        torch.rand(5)
        assert torch.equal(one(body, x)["distance"], expected)
        assert torch.equal(other(body, x)["distance"], expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [40, 50])
def test_patches_and_strides_need_not_divide_the_picture(size: int, channels: int) -> None:
    torch.manual_seed(0)
    body = build_encoder("test_resnet", size).eval()
    head = MaskedAutoencoder(body, options_of(NAME, patch=12)).eval()
    x = torch.rand(2, channels, size, size)
    with torch.no_grad():
        found = head(body, x)
    assert found["distances"].shape == (2, size, size)
    assert torch.isfinite(found["distances"]).all()


@pytest.mark.parametrize(("size", "patch"), [(32, 4), (64, 4), (128, 8), (256, 16)])
def test_patches_where_none_is_asked_for(size: int, patch: int) -> None:
    body = encoder()
    body.image_size = size
    assert patch_of(body, None) == patch
    assert patch_of(encoder("test_vit"), None) == 16


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match=r"patch: test_vit cuts patches of 16 pixels; leave `patch` out"):
        untrained("test_vit", patch=8)
    with pytest.raises(UserError, match=r"patches of 32 pixels leave nothing to see in pictures of 32"):
        untrained(patch=32)
    with pytest.raises(UserError, match=r"strides: test_resnet has no map of stride 3; accepted: 2, 4, 8, 16, 32"):
        untrained(strides=(3,))
    with pytest.raises(ValidationError, match="some patches are never hidden"):
        options_of(NAME, mask_ratio=0.2, passes=4)
