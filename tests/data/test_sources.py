from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ssl_defect.config import Recipe, load_recipe
from ssl_defect.data.records import Sample
from ssl_defect.data.roots import resolve_root, scan_source
from ssl_defect.data.sources import SOURCES, elpv, folder, magnetic_tile, mvtec
from ssl_defect.errors import UserError


def touch(root: Path, *names: str) -> Path:
    """Empty files: a source lists pictures and decodes none."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def brief(samples: list[Sample]) -> list[tuple[str, str, str, str]]:
    return [(s.image, s.mask, s.defect, s.published_split) for s in samples]


def recipe(source: str, root: object, **options: object) -> Recipe:
    return Recipe.model_validate({"name": "x", "data": {"source": source, "root": str(root), "options": options}})


SCREW = (
    "train/good/000.png",
    "test/good/000.png",
    "test/scratch/000.png",
    "ground_truth/scratch/000_mask.png",
)
TILES = ("MT_Free/Imgs/a.jpg", "MT_Free/Imgs/a.png", "MT_Crack/Imgs/b.jpg", "MT_Crack/Imgs/b.png")


def test_mvtec_pairs_masks_with_test_pictures_only(tmp_path: Path) -> None:
    samples = mvtec.scan(touch(tmp_path, *SCREW), mvtec.Options())
    assert brief(samples) == [
        ("test/good/000.png", "", "good", "test"),
        ("test/scratch/000.png", "ground_truth/scratch/000_mask.png", "scratch", "test"),
        ("train/good/000.png", "", "good", "train"),
    ]
    assert [sample.label for sample in samples] == [0, 1, 0]


def test_mvtec_reads_btad_and_visa(tmp_path: Path) -> None:
    btad = touch(tmp_path / "b", "train/ok/1.bmp", "test/ok/2.bmp", "test/ko/3.bmp", "ground_truth/ko/3.png")
    assert brief(mvtec.scan(btad, mvtec.Options()))[0] == ("test/ko/3.bmp", "ground_truth/ko/3.png", "ko", "test")
    assert Counter(s.defect for s in mvtec.scan(btad, mvtec.Options())) == {"good": 2, "ko": 1}
    visa = touch(tmp_path / "v", "train/good/1.JPG", "test/good/2.JPG", "test/bad/3.JPG", "ground_truth/bad/3.png")
    assert brief(mvtec.scan(visa, mvtec.Options()))[0] == ("test/bad/3.JPG", "ground_truth/bad/3.png", "bad", "test")


def test_mvtec_categories(tmp_path: Path) -> None:
    touch(tmp_path / "screw", *SCREW)
    assert mvtec.scan(tmp_path, mvtec.Options())[0].image == "screw/test/good/000.png"
    touch(tmp_path / "nut", *SCREW)
    with pytest.raises(UserError, match=r"2 categories; choose one with data\.options\.category: nut, screw"):
        mvtec.scan(tmp_path, mvtec.Options())
    assert mvtec.scan(tmp_path, mvtec.Options(category="nut"))[0].image == "nut/test/good/000.png"
    with pytest.raises(UserError, match=r"no 'scew'.*did you mean 'screw'"):
        mvtec.scan(tmp_path, mvtec.Options(category="scew"))


def test_mvtec_masks_of_an_unknown_defect(tmp_path: Path) -> None:
    touch(tmp_path, *SCREW, "ground_truth/dent/000_mask.png")
    with pytest.raises(UserError, match="masks of an unknown defect, there is no test/dent; test holds good, scratch"):
        mvtec.scan(tmp_path, mvtec.Options())


def test_mvtec_says_which_defect_has_no_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    touch(tmp_path, *SCREW, "test/dent/000.png")
    samples = mvtec.scan(tmp_path, mvtec.Options())
    assert ("test/dent/000.png", "", "dent", "test") in brief(samples)
    assert "no masks in ground_truth for dent" in capsys.readouterr().err


def test_mvtec_defects_do_not_belong_into_train(tmp_path: Path) -> None:
    touch(tmp_path, *SCREW, "train/scratch/000.png")
    with pytest.raises(UserError, match=r"unknown folder 'scratch'.*data\.options\.good"):
        mvtec.scan(tmp_path, mvtec.Options())


def test_hidden_and_foreign_files_are_no_pictures(tmp_path: Path) -> None:
    touch(tmp_path, *SCREW, "test/good/._000.png", "test/good/Thumbs.db", "test/.cache/a.png", "license.txt")
    assert len(mvtec.scan(tmp_path, mvtec.Options())) == 3


def test_magnetic_tile_layout(tmp_path: Path) -> None:
    samples = magnetic_tile.scan(touch(tmp_path, *TILES, "README.md"), magnetic_tile.Options())
    assert brief(samples) == [
        ("MT_Crack/Imgs/b.jpg", "MT_Crack/Imgs/b.png", "Crack", ""),
        ("MT_Free/Imgs/a.jpg", "MT_Free/Imgs/a.png", "good", ""),
    ]


def test_magnetic_tile_unknown_defect_folder(tmp_path: Path) -> None:
    touch(tmp_path, *TILES, "MT_Craks/Imgs/c.jpg")
    with pytest.raises(UserError, match=r"unknown class 'Craks'; accepted: Free, .*did you mean 'Crack'"):
        magnetic_tile.scan(tmp_path, magnetic_tile.Options())
    samples = magnetic_tile.scan(tmp_path, magnetic_tile.Options(extra_classes=["Craks"]))
    assert {sample.defect for sample in samples} == {"good", "Crack", "Craks"}


def test_magnetic_tile_class_without_pictures(tmp_path: Path) -> None:
    touch(tmp_path, *TILES)
    (tmp_path / "MT_Fray").mkdir()
    with pytest.raises(UserError, match=r"MT_Fray.Imgs: holds no \.jpg pictures"):
        magnetic_tile.scan(tmp_path, magnetic_tile.Options())


def cells(root: Path, text: str) -> Path:
    touch(root, "data/images/a.png")
    (root / "data" / "labels.csv").write_text(text, encoding="utf-8")
    return root


ROWS = "images/a.png  1.0 mono\nimages/b.png 0.3333333333333333 poly\nimages/c.png  0.6666666666666666  poly\n"


def test_elpv_grades(tmp_path: Path) -> None:
    root = cells(tmp_path, ROWS)
    samples = elpv.scan(root, elpv.Options())
    assert [(s.image, s.label, s.defect) for s in samples] == [
        ("data/images/a.png", 1, "defective"),
        ("data/images/b.png", 0, "good"),
        ("data/images/c.png", 1, "defective"),
    ]
    assert [s.grade for s in samples] == [1.0, pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert [s.label for s in elpv.scan(root, elpv.Options(kind="poly"))] == [0, 1]
    assert [s.image for s in elpv.scan(root / "data", elpv.Options(kind="mono"))] == ["images/a.png"]


@pytest.mark.parametrize("line", ["images/a.png 1.0", "images/a.png high mono", "images/a.png 1.5 mono"])
def test_elpv_bad_line_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(UserError, match=r"labels\.csv: line 2 is not"):
        elpv.scan(cells(tmp_path, f"images/a.png 0.0 mono\n{line}\n"), elpv.Options())


def test_elpv_package() -> None:
    pytest.importorskip("elpv_dataset", reason="the extra `elpv` is not installed")
    _, samples = scan_source(recipe("elpv", "package:elpv_dataset"))
    assert Counter(sample.defect for sample in samples) == {"good": 1803, "defective": 821}
    assert Counter(round(sample.grade or 0, 2) for sample in samples) == {0.0: 1508, 0.33: 295, 0.67: 106, 1.0: 715}
    _, mono = scan_source(recipe("elpv", "package:elpv_dataset", kind="mono"))
    assert len(mono) == 1074


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_defect.data.roots.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'ssl-defect\[elpv\]'"):
        resolve_root("package:elpv_dataset")


def test_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_root("~/parts") == tmp_path / "parts"


def test_folder_with_masks_per_class(tmp_path: Path) -> None:
    touch(tmp_path, "OK/a.png", "spot/a.png", "spot/line2/b.png", "masks/spot/a.png", "masks/spot/line2/b_mask.png")
    assert brief(folder.scan(tmp_path, folder.Options())) == [
        ("OK/a.png", "", "good", ""),
        ("spot/a.png", "masks/spot/a.png", "spot", ""),
        ("spot/line2/b.png", "masks/spot/line2/b_mask.png", "spot", ""),
    ]


def test_folder_with_flat_masks_and_other_names(tmp_path: Path) -> None:
    touch(tmp_path, "fine/a.png", "spot/b.png", "drawn/b.png")
    samples = folder.scan(tmp_path, folder.Options(good=["fine"], masks="drawn"))
    assert brief(samples) == [("fine/a.png", "", "good", ""), ("spot/b.png", "drawn/b.png", "spot", "")]


def test_pictures_without_a_class_folder_are_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    touch(tmp_path, "good/a.png", "spot/b.png", "c.png", "d.png")
    assert len(folder.scan(tmp_path, folder.Options())) == 2
    said = capsys.readouterr().err
    assert "2 pictures left out, in no class folder and so without a label: c.png, d.png" in said


def test_folder_mask_claimed_twice(tmp_path: Path) -> None:
    touch(tmp_path, "good/a.png", "spot/b.png", "dent/b.png", "masks/b.png")
    with pytest.raises(UserError, match=r"masks/b\.png: a mask of both dent/b\.png and spot/b\.png"):
        folder.scan(tmp_path, folder.Options())


def test_folder_without_a_good_class(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.png", "test/b.png")
    with pytest.raises(UserError, match=r"none of the class folders test, train is named good.*source `mvtec`"):
        folder.scan(tmp_path, folder.Options())


@pytest.mark.parametrize("name", ["drawn", "spot/x"])
def test_folder_masks_must_exist(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="does not exist"):
        folder.scan(touch(tmp_path, "good/a.png", "spot/b.png"), folder.Options(masks=name))


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "synthetic"])
class TestEverySourceOfFiles:
    def test_missing_folder(self, source: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="nowhere does not exist"):
            scan_source(recipe(source, tmp_path / "nowhere"))

    def test_empty_folder(self, source: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="is empty"):
            scan_source(recipe(source, tmp_path))

    def test_a_file_in_its_place(self, source: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="is a file"):
            scan_source(recipe(source, touch(tmp_path, "x.zip") / "x.zip"))

    def test_another_layout(self, source: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=str(tmp_path)):
            scan_source(recipe(source, touch(tmp_path, "a.txt")))

    def test_pictures_without_folders(self, source: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=str(tmp_path)):
            scan_source(recipe(source, touch(tmp_path, "a.png")))

    def test_unknown_option(self, source: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"x: data\.options\.colour: unknown key; accepted: "):
            scan_source(recipe(source, tmp_path, colour="red"))


def test_unknown_source(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.source: unknown source 'mvtek'.*did you mean 'mvtec'"):
        scan_source(recipe("mvtek", tmp_path))


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "experiments").glob("*.yaml")), ids=lambda p: p.stem
)
def test_recipes_name_known_sources(path: Path) -> None:
    assert load_recipe(path).data.source in SOURCES


@pytest.mark.real
def test_magnetic_tile_counts(magnetic_tile_root: Path) -> None:
    _, samples = scan_source(recipe("magnetic_tile", magnetic_tile_root))
    counts = Counter(sample.defect for sample in samples)
    assert counts == {"good": 952, "Blowhole": 115, "Break": 85, "Crack": 57, "Fray": 32, "Uneven": 103}
    assert all(sample.mask for sample in samples)


@pytest.mark.real
def test_screw_counts(screw_root: Path) -> None:
    _, samples = scan_source(recipe("mvtec", screw_root))
    assert Counter(sample.published_split for sample in samples) == {"train": 320, "test": 160}
    assert sum(bool(sample.mask) for sample in samples) == 119
    assert all(bool(sample.mask) == bool(sample.label) for sample in samples)
