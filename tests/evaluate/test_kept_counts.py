"""The counts that a run keeps: the very same back, whatever the maps, and one clear line for a damaged file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ssl_defect.errors import UserError
from ssl_defect.evaluate.kept_counts import PIXELS, Kept, packed, read_counts
from ssl_defect.evaluate.regions import count_pixels, pixel_family
from ssl_defect.evaluate.tables import write_arrays

SHAPE = (5, 12, 12)


def kept_of(maps: np.ndarray, masks: np.ndarray, threshold: float = 0.3) -> Kept:
    return Kept(count_pixels(maps, masks, threshold), np.arange(len(maps)), threshold)


def check_same(one: Kept, other: Kept | None) -> None:
    assert other is not None
    assert one.threshold == other.threshold
    assert np.array_equal(one.known, other.known)
    for name, value in vars(one.counts).items():
        again = getattr(other.counts, name)
        assert again.dtype == value.dtype, name
        assert np.array_equal(again, value), name


@settings(max_examples=25, deadline=None)
@given(
    maps=arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=32)),
    masks=arrays(np.uint8, SHAPE, elements=st.integers(0, 1)),
)
def test_what_is_written_is_what_is_read(tmp_path_factory, maps: np.ndarray, masks: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("kept") / PIXELS
    kept = kept_of(maps, masks)
    write_arrays(path, **packed(kept))
    check_same(kept, read_counts(path))


@pytest.mark.parametrize("bad", [[], [0, 2]])
def test_few_images_and_none_that_is_defective(tmp_path: Path, bad: list[int]) -> None:
    masks = np.zeros(SHAPE, np.uint8)
    masks[bad, 2:5, 2:5] = 1
    for count in (1, 3):
        kept = kept_of(np.random.default_rng(0).random(SHAPE, np.float32)[:count], masks[:count])
        write_arrays(tmp_path / PIXELS, **packed(kept))
        check_same(kept, read_counts(tmp_path / PIXELS))


def test_faint_maps_lose_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    masks = np.zeros((20, 32, 32), np.uint8)
    masks[::2, 8:14, 8:14] = 1
    maps = (rng.random(masks.shape) * 0.001 + masks * 0.0005).astype(np.float32)
    write_arrays(tmp_path / PIXELS, **packed(kept_of(maps, masks, 0.001)))
    kept = read_counts(tmp_path / PIXELS)
    assert kept is not None
    one = np.ones((1, 20))
    found = pixel_family(kept.counts, 0.001, 0.3)(one)["aupro"][0]
    wanted = pixel_family(count_pixels(maps, masks, 0.001), 0.001, 0.3)(one)["aupro"][0]
    rounded = np.rint(maps * 255)
    assert found == wanted > 0.3
    assert abs(pixel_family(count_pixels(rounded, masks, 0.0), 0.0, 0.3)(one)["aupro"][0] - wanted) > 0.02


@pytest.mark.parametrize("damage", ["cut", "text", "missing", "shape"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "evaluate" / PIXELS
    path.parent.mkdir()
    assert read_counts(path) is None
    masks = np.zeros(SHAPE, np.uint8)
    masks[0, :3] = 1
    write_arrays(path, **packed(kept_of(np.random.default_rng(0).random(SHAPE, np.float32), masks)))
    with np.load(path) as found:
        parts = dict(found.items())
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "text":
        path.write_text("not an archive")
    else:
        parts = {name: value for name, value in parts.items() if name != "tp"} if damage == "missing" else parts
        np.savez(path, **(parts | ({"known": np.arange(3)} if damage == "shape" else {})))
    with pytest.raises(
        UserError, match=r"pixels\.npz: damaged; delete the folder evaluate and run `ssl-defect evaluate`"
    ):
        read_counts(path)
