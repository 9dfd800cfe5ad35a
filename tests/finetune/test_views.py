"""Views of labelled pictures: the mask goes where the picture goes, and no small defect gets lost."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_defect.finetune.views import Views, show

STILL = {"flips": False, "turns": False, "crop": 1.0, "brightness": 0.0, "contrast": 0.0}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spots(count: int, size: int, seed: int) -> torch.Tensor:
    """uint8 (B, 1, S, S): one defective pixel each, far enough inside for every crop to hold it."""
    masks = torch.zeros(count, 1, size, size, dtype=torch.uint8)
    places = torch.randint(3 * size // 8, 5 * size // 8, (count, 2), generator=generator(seed))
    masks[torch.arange(count), 0, places[:, 0], places[:, 1]] = 1
    return masks


def test_a_view_that_may_change_nothing_changes_nothing() -> None:
    images = torch.randint(0, 256, (4, 3, 16, 16), generator=generator(0), dtype=torch.uint8)
    masks = spots(4, 16, 0)
    shown, moved = show(images, masks, Views(**STILL), generator(1))
    torch.testing.assert_close(shown, images / 255, atol=1e-5, rtol=0)
    assert torch.equal(moved, masks.float())


@given(seed=st.integers(0, 10**6), size=st.sampled_from([16, 33, 64]), crop=st.floats(0.3, 1.0))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_one_pixel_survives_every_view_and_stays_under_its_picture(seed: int, size: int, crop: float) -> None:
    masks = spots(8, size, seed)
    shown, moved = show(
        masks * 255, masks, Views(**STILL | {"crop": crop, "turns": True, "flips": True}), generator(seed)
    )
    assert set(moved.unique().tolist()) == {0.0, 1.0}
    for picture, mask in zip(shown[:, 0], moved[:, 0], strict=True):
        assert 1 <= mask.sum() <= 16
        assert mask.flatten()[picture.argmax()] == 1  # the brightest cell of the spot is in the mask


def test_turns_and_flips_give_all_eight_views() -> None:
    picture = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4).expand(200, 1, 4, 4)
    shown, _ = show(picture, None, Views(**STILL | {"turns": True, "flips": True}), generator(0))
    assert len({tuple((row * 255).round().int().tolist()) for row in shown.flatten(1)}) == 8


@pytest.mark.parametrize("name", ["brightness", "contrast"])
def test_light_changes_pictures_within_their_range_and_leaves_masks_alone(name: str) -> None:
    images = torch.randint(0, 256, (8, 1, 16, 16), generator=generator(0), dtype=torch.uint8)
    masks = spots(8, 16, 0)
    shown, moved = show(images, masks, Views(**STILL | {name: 0.5}), generator(1))
    assert torch.equal(moved, masks.float())
    assert (shown - images / 255).abs().amax(dim=(1, 2, 3)).min() > 0.003
    assert shown.min() >= 0
    assert shown.max() <= 1


def test_same_generator_same_view() -> None:
    images = torch.randint(0, 256, (4, 1, 16, 16), generator=generator(0), dtype=torch.uint8)
    first, second, third = (show(images, None, Views(), generator(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
