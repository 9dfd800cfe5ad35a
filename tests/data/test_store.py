from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from ssl_defect.data.arrays import ArrayWriter, PictureWriter
from ssl_defect.data.records import Sample, write_samples
from ssl_defect.data.store import open_store
from ssl_defect.errors import UserError

SAMPLES = [
    Sample("a.png", split="test", group=4),
    Sample("b.png", label=1, defect="spot", split="train", group=2),
    Sample("c.png", label=1, defect="crack", split="test", group=2),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_samples(tmp_path / "samples.csv", SAMPLES)
    np.save(tmp_path / "images.npy", np.arange(3 * 16, dtype=np.uint8).reshape(3, 4, 4, 1))
    np.save(tmp_path / "masks.npy", np.zeros((3, 4, 4), np.uint8))
    return tmp_path


def test_store_gives_rows_and_columns(folder: Path) -> None:
    store = open_store(folder)
    assert store.samples == SAMPLES
    assert store.rows("test").tolist() == [0, 2]
    assert store.rows("val").tolist() == []
    assert store.labels.tolist() == [0, 1, 1]
    assert store.groups.tolist() == [4, 2, 2]
    assert store.defects == ["good", "spot", "crack"]
    assert store.classes == ["good", "crack", "spot"]


def test_arrays_are_read_only_maps(folder: Path) -> None:
    store = open_store(folder)
    assert isinstance(store.images, np.memmap)
    assert isinstance(store.masks, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.images[0] = 0


def test_a_set_without_masks_opens(folder: Path) -> None:
    (folder / "masks.npy").unlink()
    assert open_store(folder).masks is None


@pytest.mark.parametrize("name", ["samples.csv", "images.npy"])
def test_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"{name}: missing; run `ssl-defect prepare`"):
        open_store(folder)


@pytest.mark.parametrize("keep", [0, 40, 130])
def test_truncated_array_is_damaged(folder: Path, keep: int) -> None:
    path = folder / "images.npy"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"images\.npy: damaged"):
        open_store(folder)


def test_files_that_do_not_belong_together_are_refused(folder: Path) -> None:
    np.save(folder / "masks.npy", np.zeros((3, 5, 5), np.uint8))
    with pytest.raises(UserError, match="do not belong together"):
        open_store(folder)


def test_array_writer_agrees_with_numpy(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (7, 3, 5), dtype=np.uint8)
    writer = ArrayWriter(tmp_path / "x.npy", (3, 5))
    for row in rows:
        writer.append(row)
    writer.finish()
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), rows)


def test_an_unfinished_array_cannot_be_read(tmp_path: Path) -> None:
    writer = ArrayWriter(tmp_path / "x.npy", (3, 5))
    writer.append(np.zeros((3, 5), np.uint8))
    with pytest.raises(ValueError, match="pickle"):
        np.load(tmp_path / "x.npy")
    writer.finish()


@pytest.mark.parametrize("colour_at", [0, 2, 4, None])
def test_the_first_colour_picture_widens_all(tmp_path: Path, colour_at: int | None) -> None:
    generator = np.random.default_rng(1)
    writer = PictureWriter(tmp_path / "x.npy", 4)
    expected = []
    for row in range(5):
        colour = row == colour_at
        picture = generator.integers(0, 256, (4, 4, 3 if colour else 1), dtype=np.uint8)
        writer.append(picture, not colour)
        expected.append(np.broadcast_to(picture, (4, 4, 1 if colour_at is None else 3)))
    writer.finish()
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), np.stack(expected))
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_a_full_disk_is_an_error_and_not_a_crash() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    with closing(ArrayWriter(full, (64, 64))) as writer, pytest.raises(OSError, match="No space left"):
        writer.append(np.zeros((64, 64), np.uint8))
