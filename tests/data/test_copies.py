"""Near-copies: found whatever light, crop, turn and mirror; look-alikes kept apart; groups numbered by first rows."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from ssl_defect.data import copies
from ssl_defect.data.copies import LARGE, find_copies, link, search
from ssl_defect.data.registration import TURNS, Window, align, detail, remove_shared

SIDE = 96


def part(rng: np.random.Generator, side: int = 160) -> np.ndarray:
    """A textured part: noise of some grain, maybe drawn to streaks, with a few spots."""
    noise = rng.standard_normal((side, side), dtype=np.float32)
    texture = cv2.GaussianBlur(noise, (0, 0), rng.uniform(1.5, 3), sigmaY=rng.uniform(1.5, 10))
    texture /= texture.std()
    for _ in range(4):
        cv2.circle(texture, rng.integers(0, side, 2).tolist(), int(rng.integers(3, 10)), rng.normal(0, 3), -1)
    return 110 + 22 * texture


def photograph(rng: np.random.Generator, texture: np.ndarray) -> np.ndarray:
    """The part again: slight angle, another crop of another shape, turned, mirrored, other and uneven light, noise."""
    side = texture.shape[0]
    slant = cv2.getRotationMatrix2D((side / 2, side / 2), rng.uniform(-3, 3), 1)
    view = cv2.warpAffine(texture, slant, (side, side), borderMode=cv2.BORDER_REFLECT)
    width, height = (int(side * share) for share in rng.uniform(0.9, 1, 2))
    x, y = rng.integers(0, side - width + 1), rng.integers(0, side - height + 1)
    view = np.rot90(view[y : y + height, x : x + width], rng.integers(4))
    view = view[:, ::-1] if rng.random() < 0.5 else view
    view = cv2.resize(np.ascontiguousarray(view), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    light = rng.uniform(0.6, 1.4) * (1 + 0.3 * rng.uniform(-1, 1) * np.linspace(-1, 1, SIDE))
    return np.clip(view * light + rng.uniform(-10, 20) + rng.normal(0, 2, view.shape), 0, 255).astype(np.uint8)


def make(copies: list[int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    textures = [part(rng) for _ in copies]
    images = [photograph(rng, texture) for texture, n in zip(textures, copies, strict=True) for _ in range(n)]
    order = rng.permutation(len(images))
    return np.stack(images)[order][..., None], np.repeat(np.arange(len(copies)), copies)[order]


def pairs(groups: np.ndarray) -> set[tuple[int, int]]:
    same = np.triu(groups[:, None] == groups[None], 1)
    return set(zip(*(side.tolist() for side in np.nonzero(same)), strict=True))


def test_copies_are_found_whatever_light_crop_turn_and_mirror() -> None:
    images, truth = make([1, 2, 3, 4] * 20)
    found, true = pairs(find_copies(images)), pairs(truth)
    precision, recall = len(found & true) / len(found), len(found & true) / len(true)
    assert precision > 0.99
    assert 2 * precision * recall / (precision + recall) > 0.95


def test_a_set_without_copies_has_no_groups() -> None:
    images, _ = make([1] * 150)
    assert len(set(find_copies(images))) >= 149


@pytest.mark.parametrize("sizes", [[40] * 3, [40] + [1] * 100, [34] * 12])
def test_parts_with_dozens_of_pictures_are_found(sizes: list[int]) -> None:
    """Their own pictures then stand where look-alikes that are no copies are looked for."""
    images, truth = make(sizes)
    groups, look_alikes = search(images)
    found, true = pairs(groups), pairs(truth)
    assert len(found & true) > 0.99 * len(found)
    assert len(found & true) > 0.85 * len(true)
    assert look_alikes < LARGE


def test_pictures_that_all_look_alike_are_said_to() -> None:
    """From the pixels nothing tells a hundred pictures of a part from a hundred parts that look the same."""
    images, _ = make([100])
    assert search(images)[1] >= LARGE


def test_parts_that_share_a_bold_pattern_stay_apart() -> None:
    """Like solar cells: the bars are the same in every picture and far stronger than what tells the cells apart."""
    images, truth = make([1] * 120 + [2] * 20)
    bars = np.zeros((SIDE, SIDE, 1))
    bars[10::24] = bars[11::24] = -90
    fixed = np.clip(images * 0.5 + 100 + bars, 0, 255).astype(np.uint8)
    groups = find_copies(fixed)
    assert len(pairs(groups) - pairs(truth)) <= 1


def test_groups_are_numbered_by_first_rows_and_the_same_every_time() -> None:
    images, _ = make([2, 1, 3])
    groups = find_copies(images)
    assert groups.dtype == np.int64
    firsts = [int(np.flatnonzero(groups == g)[0]) for g in range(groups.max() + 1)]
    assert firsts == sorted(firsts)
    np.testing.assert_array_equal(groups, find_copies(images))


def test_rounding_of_another_processor_compares_the_same_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = make([1, 2, 3] * 12)
    search, verify = copies._candidates, copies._verify
    compared: list[np.ndarray] = []
    monkeypatch.setattr(copies, "_verify", lambda details, some: compared.append(some) or verify(details, some))
    groups = find_copies(images)
    first, compared[:] = list(compared), []
    rng = np.random.default_rng(1)

    def rounded(coarse: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ranked, similar = search(coarse)
        return ranked, similar + rng.uniform(-3e-6, 3e-6, similar.shape)

    monkeypatch.setattr(copies, "_candidates", rounded)
    np.testing.assert_array_equal(find_copies(images), groups)
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(first, compared, strict=True))


def test_a_pair_is_taken_the_way_round_that_is_more_similar() -> None:
    ranked = np.array([[[0, 1, 5]], [[1, 0, 7]], [[2, 0, 3]]])  # image, other, turn and crop
    equal = np.array([[0.5], [0.50001], [0.4]])
    assert copies._once(ranked, equal).tolist() == [[0, 1, 5], [2, 0, 3]]
    assert copies._once(ranked, equal + np.array([[0], [0.01], [0]])).tolist() == [[1, 0, 7], [2, 0, 3]]


@pytest.mark.parametrize("side", [64, 200])
def test_colour_and_any_size_are_read(side: int) -> None:
    gray, truth = make([2, 2, 1])
    images = np.stack([cv2.resize(image, (side, side))[..., None].repeat(3, axis=2) for image in gray])
    assert pairs(find_copies(images)) == pairs(truth)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_pictures_without_detail_are_alone(count: int) -> None:
    images = np.full((count, 64, 64, 1), 255, dtype=np.uint8)
    np.testing.assert_array_equal(find_copies(images), np.arange(count))


def test_identical_pictures_are_one_group_beside_flat_ones() -> None:
    images, _ = make([1])
    flat = np.zeros_like(images)
    np.testing.assert_array_equal(find_copies(np.concatenate([flat, images, flat, images])), [0, 1, 2, 1])


def test_linking_is_on_average_so_that_one_wrong_pair_does_not_chain() -> None:
    compared = np.array([[0, 1], [2, 3], [1, 2], [0, 2], [1, 3]])
    scores = np.array([0.9, 0.9, 0.7, -0.1, 0.1])
    np.testing.assert_array_equal(np.unique(link(4, compared, scores, 0.5), return_inverse=True)[1], [0, 0, 1, 1])
    # (0.7 + 0.6 + 0.5) / 3 = 0.6 between the two pairs: merged at 0.6, not above.
    scores = np.array([0.9, 0.9, 0.7, 0.6, 0.5])
    assert len(set(link(4, compared, scores, 0.59))) == 1
    assert len(set(link(4, compared, scores, 0.61))) == 2
    # A failed alignment says nothing: (0.7 + 0.6) / 2 = 0.65.
    assert len(set(link(4, compared, np.array([0.9, 0.9, 0.7, 0.6, 0.0]), 0.64))) == 1


def test_eight_turns_are_all_different_and_work_on_stacks() -> None:
    square = np.arange(9, dtype=np.float32).reshape(3, 3)
    assert len({turn(square).tobytes() for turn in TURNS}) == 8
    stack = np.stack([square, square + 9])
    for turn in TURNS:
        np.testing.assert_array_equal(turn(stack)[1], turn(square) + 9)


def test_detail_forgets_exposure_and_slow_light() -> None:
    rng = np.random.default_rng(0)
    image = np.clip(part(rng, 128), 40, 200)
    light = np.linspace(0.5, 1.2, 128)
    first, second = (detail(a.astype(np.uint8)[..., None], 64, 2.0) for a in (image, image * light))
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.98
    assert not detail(np.full((128, 128, 1), 7, dtype=np.uint8), 64, 2.0).any()


def test_align_undoes_a_known_crop_and_rejects_another_part() -> None:
    rng = np.random.default_rng(1)
    one, other = part(rng, 128).clip(0, 255).astype(np.uint8), part(rng, 128).clip(0, 255).astype(np.uint8)
    crop = cv2.resize(one[0:112, 8:120], (128, 128))  # corner (1/16, 0), side 7/8
    whole, cut, different = (detail(a[..., None], 64, 2.0) for a in (one, crop, other))
    start = Window(1 / 16, 0, 7 / 8, 7 / 8).warp(64)
    assert align(cut, whole, start) > 0.85
    assert align(cut, different, start) < 0.4


def test_shared_pattern_is_removed_from_large_sets_only() -> None:
    rng = np.random.default_rng(2)
    own = rng.standard_normal((80, 400), dtype=np.float32)
    rows = own + 10 * rng.standard_normal((80, 1)).astype(np.float32) * np.sin(np.arange(400, dtype=np.float32))
    few = rows[:39].copy()
    remove_shared(few)
    np.testing.assert_array_equal(few, rows[:39])
    remove_shared(rows)
    assert np.abs(rows @ np.sin(np.arange(400))).max() < 0.1 * np.abs(own @ np.sin(np.arange(400))).max()
    assert np.corrcoef(rows.ravel(), own.ravel())[0, 1] > 0.95


@pytest.mark.real
@pytest.mark.slow
def test_magnetic_tile_groups_are_tiles_under_different_exposures(magnetic_tile_root: Path) -> None:
    files = sorted(magnetic_tile_root.glob("MT_*/Imgs/*.jpg"))
    read = [cv2.imread(str(file), cv2.IMREAD_GRAYSCALE) for file in files]
    images = np.stack([cv2.resize(image, (128, 128), interpolation=cv2.INTER_AREA) for image in read])[..., None]
    groups = find_copies(images)
    # The exposure in the file name checks the groups; it is no input.
    exposure = np.array([int(re.search(r"exp(\d)", file.name)[1]) for file in files])
    sizes = Counter(groups.tolist())
    several = [group for group, size in sizes.items() if size > 1]
    pure = [len(set(exposure[groups == group])) == sizes[group] for group in several]
    assert np.mean(pure) >= 0.9
    assert sum(size == 6 for size in sizes.values()) >= 40
