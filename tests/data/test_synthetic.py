from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_defect.data.sources import synthetic
from ssl_defect.data.sources.synthetic import Options, Shot, render, scan, shots
from ssl_defect.errors import UserError

SMALL = Options(good=10, defective=3, size=48, copies=0.4)


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_counts_masks_and_published_split(tmp_path: Path) -> None:
    samples = scan(tmp_path / "syn", SMALL)
    assert Counter(s.defect for s in samples) == {"good": 10, "crack": 3, "scratch": 3, "spot": 3, "stain": 3}
    assert Counter(s.published_split for s in samples if s.label == 0) == {"train": 7, "test": 3}
    assert all(bool(s.mask) == bool(s.label) for s in samples)
    assert [path.name for path in tmp_path.iterdir()] == ["syn"]


def test_same_settings_same_bytes_other_seed_other_pictures(tmp_path: Path) -> None:
    for name in ("a", "b"):
        scan(tmp_path / name, SMALL)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    scan(tmp_path / "c", SMALL.model_copy(update={"seed": 1}))
    other = files(tmp_path / "c")
    assert all(other[name] != data for name, data in files(tmp_path / "a").items())


def test_drawn_once_then_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scan(tmp_path, SMALL)
    monkeypatch.setattr(synthetic, "_draw", lambda *_: pytest.fail("drawn again"))
    assert scan(tmp_path, SMALL) == first


def test_other_options_are_refused(tmp_path: Path) -> None:
    scan(tmp_path, SMALL)
    with pytest.raises(UserError, match="drawn with other options; delete that folder"):
        scan(tmp_path, SMALL.model_copy(update={"good": 11}))


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        scan(tmp_path, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


def test_an_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthetic, "_draw", fail)
    with pytest.raises(OSError, match="No space left"):
        scan(tmp_path / "syn", SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("defect", ["crack", "scratch", "spot", "stain"])
def test_masks_are_exact(defect: str) -> None:
    """Without light, blur and noise, the picture differs from that of the unharmed part in the mask and only there."""
    from ssl_defect.data.sources.drawing import draw_defect, draw_part

    for seed in range(12):
        rng = np.random.default_rng(seed)
        surface, solid = draw_part(rng, 74)
        before = surface.copy()
        mask = draw_defect(rng, surface, solid, defect, (10, 64))
        assert mask.any()
        assert not (mask & ~solid).any()
        changed = np.abs(surface - before) > 1e-4
        assert not (changed & ~mask).any()
        assert (changed & mask).sum() >= 0.97 * mask.sum()


def test_every_capture_shows_the_whole_defect() -> None:
    for defect in ("crack", "spot"):
        areas = {int((render(Shot("", "", 3, defect, number), SMALL)[1] > 0).sum()) for number in range(6)}
        assert len(areas) == 1
        assert areas.pop() > 0


def test_copies_show_the_same_part_and_others_do_not(tmp_path: Path) -> None:
    options = Options(good=12, defective=0, classes=[], size=64, copies=0.5)
    every = list(shots(options))
    assert sorted(Counter(shot.part for shot in every).values()) == [2] * 6
    wide = options.model_copy(update={"size": 96})
    small = [np.asarray(Image.fromarray(render(shot, wide)[0]).resize((24, 24))).astype(float) for shot in every]

    def likeness(a: np.ndarray, b: np.ndarray) -> float:
        """Best correlation over shifts of up to 4 cells."""
        core = a[4:20, 4:20].ravel()
        windows = [b[y : y + 16, x : x + 16].ravel() for y in range(9) for x in range(9)]
        return max(float(np.corrcoef(core, window)[0, 1]) for window in windows)

    same = [likeness(small[i], small[i + 6]) for i in range(6)]
    other = [likeness(small[i], small[j]) for i in range(6) for j in range(6) if i != j]
    assert min(same) > 0.8
    assert np.median(other) < 0.6


def test_manifest_tells_the_parts(tmp_path: Path) -> None:
    samples = scan(tmp_path, SMALL)
    parts = json.loads((tmp_path / "synthetic.json").read_text())["parts"]
    assert set(parts) == {sample.image for sample in samples}
    by_part: dict[int, set[str]] = {}
    for sample in samples:
        by_part.setdefault(parts[sample.image], set()).add(sample.defect)
    assert all(len(defects) == 1 for defects in by_part.values())


def test_pictures_look_like_pictures() -> None:
    picture, mask = render(Shot("", "", 0, "stain", 0), SMALL)
    assert picture.shape == mask.shape == (48, 48)
    assert set(np.unique(mask)) == {0, 255}
    assert 20 < picture.mean() < 235
    assert picture.std() > 8
