from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssl_defect.config import Recipe
from ssl_defect.data import prepare as stage
from ssl_defect.data.audit import copy_groups, random_leak
from ssl_defect.data.prepare import inputs_digest, prepare
from ssl_defect.data.records import Sample
from ssl_defect.data.sources import synthetic
from ssl_defect.data.store import Store, open_store
from ssl_defect.errors import UserError

SIDE = 32


def recipe(source: str, root: Path | str, **data: Any) -> Recipe:
    return Recipe.model_validate(
        {"name": "x", "data": {"source": source, "root": str(root), "image_size": SIDE, "copies": False, **data}}
    )


def picture(number: int, width: int = 24, height: int = 20) -> Image.Image:
    rng = np.random.default_rng(number)
    return Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six good and six spotted pictures with masks, in class folders."""
    folder = tmp_path / "raw"
    for name in ("good", "spot", "masks/spot"):
        (folder / name).mkdir(parents=True)
    for number in range(6):
        picture(number).save(folder / "good" / f"{number}.png")
        picture(100 + number).save(folder / "spot" / f"{number}.png")
        mask = np.zeros((20, 24), np.uint8)
        mask[5, 7 + number] = 255
        Image.fromarray(mask).save(folder / "masks" / "spot" / f"{number}.png")
    return folder


@pytest.fixture
def run(root: Path, tmp_path: Path) -> Callable[..., tuple[Store, dict[str, Any]]]:
    def prepared(**data: Any) -> tuple[Store, dict[str, Any]]:
        prepare(recipe("folder", root, **{"max_unusable": 0.5, **data}), tmp_path / "out")
        return open_store(tmp_path / "out"), json.loads((tmp_path / "out" / "audit.json").read_text("utf-8"))

    return prepared


Run = Callable[..., tuple[Store, dict[str, Any]]]


def reasons(audit: dict[str, Any]) -> dict[str, str]:
    return {entry["image"]: entry["reason"] for entry in audit["set_aside"]}


def test_rows_of_samples_pictures_and_masks_agree(run: Run, root: Path, tmp_path: Path) -> None:
    store, audit = run()
    assert store.images.shape == (12, SIDE, SIDE, 1)
    assert store.masks is not None
    for row, sample in enumerate(store.samples):
        grey = np.asarray(Image.open(root / sample.image), dtype=float)
        assert abs(store.images[row].mean() - grey.mean()) < 6
        assert bool(store.masks[row].any()) == bool(sample.label)
        assert sample.area == pytest.approx(sample.label / (20 * 24), abs=1e-6)
        assert (sample.width, sample.height) == (24, 20)
    assert audit["counts"] == {"good": 6, "spot": 6}
    assert audit["usable"] == 12
    assert sum(sum(counts.values()) for counts in audit["splits"].values()) == 12
    assert audit["sizes"] == {"min": [24, 20], "max": [24, 20], "distinct": 1}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "audit.json",
        "images.npy",
        "masks.npy",
        "samples.csv",
    ]


def test_a_set_without_masks_has_no_mask_file(run: Run, root: Path) -> None:
    (root / "masks").rename(root.parent / "elsewhere")
    assert run()[0].masks is None


def test_broken_pictures_are_set_aside_with_their_reason(run: Run, root: Path) -> None:
    (root / "good" / "corrupt.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    whole = (root / "good" / "0.png").read_bytes()
    (root / "good" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "good" / "empty.jpg").touch()
    Image.new("L", (1, 1)).save(root / "good" / "one.png")
    store, audit = run()
    assert len(store.samples) == audit["usable"] == 12
    assert audit["counts"]["good"] == 10
    found = reasons(audit)
    assert set(found) == {"good/corrupt.png", "good/cut.png", "good/empty.jpg", "good/one.png"}
    assert "1 x 1 pixels" in found["good/one.png"]
    assert "truncated" in found["good/cut.png"]


def test_too_many_unusable_pictures_stop_the_run(run: Run, root: Path) -> None:
    (root / "good" / "bad.png").write_bytes(b"no")
    with pytest.raises(UserError, match=r"1 of 13 images are unusable, more than data\.max_unusable.*'good/bad\.png'"):
        run(max_unusable=0.05)
    assert run(max_unusable=0.08)[1]["usable"] == 12


def test_one_rgba_picture_makes_the_set_colour_and_is_noted(run: Run, root: Path) -> None:
    Image.new("RGBA", (24, 20), (250, 10, 20, 255)).save(root / "good" / "3.png")
    store, audit = run()
    assert store.images.shape == (12, SIDE, SIDE, 3)
    assert audit["channels"] == 3
    row = [sample.image for sample in store.samples].index("good/3.png")
    assert store.images[row, 9, 9].tolist() == [250, 10, 20]
    assert np.ptp(store.images[0], axis=-1).max() == 0
    assert audit["odd"] == [{"image": "good/3.png", "what": "mode RGBA; transparency laid over white"}]


def test_grey_pictures_saved_as_colour_stay_grey(run: Run, root: Path) -> None:
    for path in (root / "good").iterdir():
        Image.open(path).convert("RGB").save(path)
    assert run()[1]["channels"] == 1


def test_sixteen_bit_and_palette_pictures_are_noted(run: Run, root: Path) -> None:
    Image.fromarray(np.full((20, 24), 200 * 257, np.uint16)).save(root / "good" / "1.png")
    Image.fromarray(np.full((20, 24), 9, np.uint8)).convert("P").save(root / "good" / "2.png")
    store, audit = run()
    assert (store.images[1] == 200).all()
    assert {entry["image"]: entry["what"].split()[-1] for entry in audit["odd"]}.keys() == {"good/1.png", "good/2.png"}


def test_wrong_masks_are_set_aside(run: Run, root: Path) -> None:
    masks = root / "masks" / "spot"
    for name in "67":
        (root / "spot" / f"{name}.png").write_bytes((root / "spot" / "5.png").read_bytes())
        (masks / f"{name}.png").write_bytes((masks / "5.png").read_bytes())
    Image.new("L", (20, 24), 255).save(masks / "0.png")
    Image.new("L", (24, 20), 0).save(masks / "1.png")
    inverted = np.full((20, 24), 255, np.uint8)
    inverted[8:10, 8:10] = 0
    Image.fromarray(inverted).save(masks / "2.png")
    (masks / "3.png").unlink()
    (root / "masks" / "good").mkdir()
    Image.new("L", (24, 20), 255).save(root / "masks" / "good" / "4.png")
    store, audit = run()
    found = reasons(audit)
    assert len(store.samples) == 9
    assert "its mask is 20 x 24 pixels, the picture 24 x 20" in found["spot/0.png"]
    assert "its mask is empty" in found["spot/1.png"]
    assert "looks inverted" in found["spot/2.png"]
    assert "without a mask" in found["spot/3.png"]
    assert "its mask is not empty" in found["good/4.png"]
    assert audit["empty_masks"] == ["spot/1.png"]


def test_empty_masks_can_be_kept_and_are_still_listed(run: Run, root: Path) -> None:
    Image.new("L", (24, 20), 0).save(root / "masks" / "spot" / "1.png")
    store, audit = run(empty_masks="keep")
    assert len(store.samples) == 12
    assert audit["empty_masks"] == ["spot/1.png"]
    assert audit["set_aside"] == []


@pytest.mark.parametrize(
    "name",
    ["<script>alert(1)<b>.png", "a,b;\"c'.png", "two\nlines.png", "Größe 部品 🔩.png", " lead.png", "=1+1.png"],
)
def test_strange_file_names_are_kept_as_they_are(run: Run, root: Path, name: str) -> None:
    picture(77).save(root / "good" / name)
    store, audit = run()
    assert f"good/{name}" in [sample.image for sample in store.samples]
    (root / "good" / name).write_bytes(b"")
    assert reasons(run()[1]).keys() == {f"good/{name}"}
    assert audit["usable"] == 13


@pytest.mark.parametrize("name", [b"\xff\xfe.png", b"a\rb.png"])
def test_names_that_no_table_can_hold_are_set_aside(run: Run, root: Path, name: bytes) -> None:
    import os

    try:
        Path(os.fsdecode(bytes(root / "good") + b"/" + name)).write_bytes((root / "good" / "0.png").read_bytes())
    except (OSError, ValueError):
        pytest.skip("this file system refuses the name")
    _, audit = run()
    assert audit["usable"] == 12
    assert "file name" in audit["set_aside"][0]["reason"]


def test_one_class_only(root: Path, run: Run) -> None:
    (root / "spot").rename(root.parent / "spot")
    (root / "masks").rename(root.parent / "masks")
    with pytest.raises(UserError, match=r"no defective part among .*good 6.*both needed"):
        run()


def test_a_class_whose_pictures_are_all_unusable(root: Path, run: Run) -> None:
    for path in (root / "spot").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no defective part among"):
        run(max_unusable=1.0)


def test_official_needs_a_published_split(run: Run) -> None:
    with pytest.raises(UserError, match="without a published split"):
        run(protocol="official")


def test_official_keeps_the_published_split(tmp_path: Path) -> None:
    options = {"good": 20, "defective": 3, "size": 32}
    prepare(recipe("synthetic", tmp_path / "syn", protocol="official", options=options), tmp_path / "out")
    store = open_store(tmp_path / "out")
    assert all((sample.published_split == "test") == (sample.split == "test") for sample in store.samples)
    assert {sample.defect for sample in store.samples if sample.split != "test"} == {"good"}


def test_same_input_same_files_and_a_partial_attempt_is_overwritten(root: Path, tmp_path: Path) -> None:
    settings = recipe("folder", root)
    prepare(settings, tmp_path / "a")
    (tmp_path / "b").mkdir()
    for name in ("images.npy", "masks.npy", "samples.csv", "thumbnails.npy"):
        (tmp_path / "b" / name).write_bytes(b"left behind by a killed run")
    prepare(settings, tmp_path / "b")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert {path.name for path in (tmp_path / "b").iterdir()} == names
    for name in names - {"audit.json"}:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_threads_do_not_change_the_order(root: Path, tmp_path: Path) -> None:
    for threads in (1, 4):
        settings = recipe("folder", root)
        settings = settings.model_copy(update={"compute": settings.compute.model_copy(update={"threads": threads})})
        prepare(settings, tmp_path / str(threads))
    assert (tmp_path / "1" / "images.npy").read_bytes() == (tmp_path / "4" / "images.npy").read_bytes()


def test_a_full_disk_is_not_swallowed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ssl_defect.data.arrays.ArrayWriter._write", full)
    with pytest.raises(OSError, match="No space left"):
        run()


def test_inputs_digest_follows_bytes_names_and_labels(root: Path) -> None:
    settings = recipe("folder", root)
    seen = {inputs_digest(settings)}
    assert inputs_digest(settings) in seen
    for change in (
        lambda: picture(55).save(root / "good" / "2.png"),
        lambda: (root / "good" / "2.png").rename(root / "good" / "7.png"),
        lambda: (root / "masks" / "spot" / "2.png").write_bytes(b"other"),
        lambda: [(root / place).rename((root / place).with_name("dent")) for place in ("spot", "masks/spot")],
    ):
        change()
        assert inputs_digest(settings) not in seen
        seen.add(inputs_digest(settings))
    (root / "notes.txt").write_text("not a picture")
    assert inputs_digest(settings) in seen


def grouped(*groups: int, defects: str = "") -> list[Sample]:
    names = {"g": "good", "s": "spot"}
    kinds = defects or "g" * len(groups)
    return [
        Sample(f"{row}.png", group=group, label=int(kind == "s"), defect=names[kind])
        for row, (group, kind) in enumerate(zip(groups, kinds, strict=True))
    ]


def test_groups_are_counted_and_contradictions_named() -> None:
    found = copy_groups(grouped(0, 1, 0, 2, 1, 0, 3, defects="ggsgggg"))
    assert (found["groups"], found["images"], found["largest"]) == (2, 5, 3)
    assert found["sizes"] == {"2": 1, "3": 1}
    assert found["examples"] == [[0, 2, 5], [1, 4]]
    assert found["mixed_labels"] == [
        {"group": 0, "images": ["0.png", "2.png", "5.png"], "defects": ["good", "spot", "good"]}
    ]
    assert copy_groups(grouped(0, 1))["largest"] == 1


def test_examples_are_at_most_eight_of_six() -> None:
    found = copy_groups(grouped(*[number // 9 for number in range(9 * 30)]))
    assert len(found["examples"]) == 8
    assert {len(rows) for rows in found["examples"]} == {6}


def test_random_leak_matches_the_hand_computed_share() -> None:
    """Pairs of near-copies: a test image's twin is in train with about the share of train among the others."""
    pairs = grouped(*[number // 2 for number in range(400)], defects="gs" * 200)
    settings = recipe("folder", "x", val_share=0.15, test_share=0.35).data
    share = random_leak(pairs, settings)
    assert share == pytest.approx(0.5, abs=0.06)
    assert random_leak(grouped(*range(40), defects="gs" * 20), settings) == 0


@pytest.mark.parametrize("level", [0.3, 0.95])
def test_groups_keep_copies_together_in_the_stage(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], level: float
) -> None:
    for kind in ("good", "spot"):
        for number in range(6):
            (root / kind / f"{number}c.png").write_bytes((root / kind / f"{number}.png").read_bytes())
    for number in range(6):
        (root / "masks/spot" / f"{number}c.png").write_bytes((root / "masks/spot" / f"{number}.png").read_bytes())
    shapes = []

    def pairs(images: np.ndarray) -> tuple[np.ndarray, float]:
        shapes.append(images.shape)
        return np.arange(24) // 2, level

    monkeypatch.setattr(stage, "search", pairs)
    prepare(recipe("folder", root, copies=True), tmp_path / "out")
    assert shapes == [(24, 128, 128, 1)]
    store = open_store(tmp_path / "out")
    for group in range(12):
        assert len({sample.split for sample in store.samples if sample.group == group}) == 1
    found = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert (
        found["copies"]["undecided"] == (level > 0.9) == ("nearly all pictures look alike" in capsys.readouterr().err)
    )
    leak = found["leak"]
    assert leak["this_split_share"] == 0
    assert leak["random_split_share"] > 0.2


def test_synthetic_from_recipe_to_store(tmp_path: Path) -> None:
    options = {"good": 20, "defective": 4, "size": 40}
    prepare(recipe("synthetic", tmp_path / "syn", options=options), tmp_path / "out")
    store = open_store(tmp_path / "out")
    assert store.classes == ["good", "crack", "scratch", "spot", "stain"]
    assert store.masks is not None
    assert all(bool(store.masks[row].any()) == bool(label) for row, label in enumerate(store.labels))
    assert synthetic.Options(**options).good == 20


@pytest.mark.real
def test_magnetic_tile_and_its_empty_masks(magnetic_tile_root: Path, tmp_path: Path) -> None:
    prepare(recipe("magnetic_tile", magnetic_tile_root), tmp_path)
    audit = json.loads((tmp_path / "audit.json").read_text("utf-8"))
    assert list(audit["counts"].values()) == [952, 115, 85, 57, 32, 103]
    assert audit["channels"] == 1
    assert sorted(Path(image).stem for image in audit["empty_masks"]) == [
        "exp3_num_45042",
        "exp4_num_124690",
        "exp4_num_352527",
        "exp4_num_45057",
    ]
    assert audit["usable"] == 1340
    assert {entry["image"] for entry in audit["set_aside"]} == set(audit["empty_masks"])
    store = open_store(tmp_path)
    assert store.masks is not None
    # No thin defect is lost, not even at a quarter of the usual size.
    assert all(bool(store.masks[row].any()) == bool(label) for row, label in enumerate(store.labels))
