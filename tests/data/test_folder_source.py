"""The source `folder`, and what all listings of pictures pass over: nothing is lost without a word."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ssl_defect.config import Recipe
from ssl_defect.data.prepare import inputs_digest
from ssl_defect.data.records import Sample
from ssl_defect.data.sources import folder, mvtec
from ssl_defect.data.sources.listing import images_in
from ssl_defect.errors import UserError

PLAIN = ("good/a.png", "scratch/b.png")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def scan(root: Path, *names: str, **options: object) -> list[Sample]:
    return folder.scan(touch(root, *names), folder.Options.model_validate(options))


def masks(samples: list[Sample]) -> dict[str, str]:
    return {sample.image: sample.mask for sample in samples if sample.label}


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


class TestNamesOfMaskFolders:
    @pytest.mark.parametrize("name", ["Masks", "MASK", "Ground_Truth"])
    def test_known_folders_in_any_case(self, tmp_path: Path, name: str) -> None:
        samples = scan(tmp_path, *PLAIN, f"{name}/scratch/b.png")
        assert masks(samples) == {"scratch/b.png": f"{name}/scratch/b.png"}

    def test_the_option_in_any_case(self, tmp_path: Path) -> None:
        assert masks(scan(tmp_path, *PLAIN, "Drawn/b.png", masks="drawn")) == {"scratch/b.png": "Drawn/b.png"}

    def test_two_that_fit(self, tmp_path: Path) -> None:
        touch(tmp_path, *PLAIN, "MASKS/b.png", "Masks/b.png")
        with pytest.raises(
            UserError, match=r"2 folders of masks: MASKS, Masks; keep one of them, or name it with data\.opt"
        ):
            scan(tmp_path)
        with pytest.raises(UserError, match=r"'masks' may be MASKS, Masks in .*; write it exactly"):
            scan(tmp_path, masks="masks")
        with pytest.raises(UserError, match="2 folders of masks: ground_truth, masks"):
            scan(tmp_path, "masks/b.png", "ground_truth/b.png")

    @pytest.mark.parametrize(("name", "taken"), [("", "masks"), ("Masks", "Masks")])
    def test_an_exact_folder_goes_first(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, taken: str
    ) -> None:
        samples = scan(tmp_path, *PLAIN, "masks/b.png", "Masks/b.png", masks=name)
        assert masks(samples) == {"scratch/b.png": f"{taken}/b.png"}
        left = "Masks" if taken == "masks" else "masks"
        assert lines(capsys) == [f"{tmp_path}: {left} left out: the masks are read from {taken}"]

    def test_a_folder_within_a_folder_is_no_class(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        samples = scan(tmp_path, *PLAIN, "drawn/Png/b.png", masks="drawn/png")
        assert masks(samples) == {"scratch/b.png": "drawn/Png/b.png"}
        assert lines(capsys) == [f"{tmp_path}: no pictures in drawn, so no class of that name"]

    @pytest.mark.parametrize("name", ["..", "good/../scratch", ".", "/tmp"])
    def test_the_option_stays_within_the_root(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(UserError, match=r"data\.options\.masks: '.*' is not a folder within"):
            scan(tmp_path, *PLAIN, masks=name)

    def test_class_folders_in_any_case(self, tmp_path: Path) -> None:
        samples = scan(tmp_path, "good/a.png", "Scratch/Lot1/b.png", "masks/scratch/lot1/b.png")
        assert masks(samples) == {"Scratch/Lot1/b.png": "masks/scratch/lot1/b.png"}

    def test_an_exact_class_folder_goes_first(self, tmp_path: Path) -> None:
        samples = scan(tmp_path, *PLAIN, "masks/Scratch/b.png", "masks/scratch/b.png")
        assert masks(samples) == {"scratch/b.png": "masks/scratch/b.png"}

    def test_two_class_folders_that_fit(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="the masks of scratch may lie in SCRATCH, Scratch; put them into one"):
            scan(tmp_path, *PLAIN, "masks/Scratch/b.png", "masks/SCRATCH/b.png")

    def test_masks_of_another_class_are_not_borrowed(self, tmp_path: Path) -> None:
        samples = scan(tmp_path, *PLAIN, "Scratch/b.png", "masks/Scratch/b.png")
        assert masks(samples) == {"Scratch/b.png": "masks/Scratch/b.png", "scratch/b.png": ""}

    @pytest.mark.parametrize("names", [["labels/scratch/b.png"], ["Notes/Scratch/b.png", "Notes/good/a.png"]])
    def test_masks_under_another_name_are_no_class(self, tmp_path: Path, names: list[str]) -> None:
        with pytest.raises(
            UserError, match=r"(labels|Notes) is no class: its sub-folders .*; if these are masks, name"
        ):
            scan(tmp_path, *PLAIN, *names)

    def test_sub_folders_of_a_class_keep_their_names(self, tmp_path: Path) -> None:
        samples = scan(tmp_path, *PLAIN, "good/scratch/c.png", "spot/d.png", "spot/scratch/e.png", "dent/lot1/f.png")
        assert {sample.defect for sample in samples} == {"good", "scratch", "spot", "dent"}


class TestMasksOfNoPicture:
    def test_some(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        samples = scan(tmp_path, *PLAIN, "scratch/c.png", "masks/scratch/b_gt.png", "masks/scratch/c.png")
        assert masks(samples) == {"scratch/b.png": "", "scratch/c.png": "masks/scratch/c.png"}
        assert lines(capsys) == [
            f"{tmp_path}: 1 of 2 mask files fit no picture, such as masks/scratch/b_gt.png; the mask of b.jpg is named "
            "b.png or b_mask.png and lies in masks/<class>/ or masks/"
        ]

    def test_all(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"none of the 2 mask files fits a picture, such as masks/b_gt\.png; the "):
            scan(tmp_path, *PLAIN, "masks/b_gt.png", "masks/scratch/b_gt.png")

    def test_none_at_all(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        scan(tmp_path, *PLAIN, "masks/scratch/b.npy")
        assert lines(capsys) == [
            f"{tmp_path}: 1 files not listed as pictures (.npy 1), such as masks/scratch/b.npy; convert them to .png",
            f"{tmp_path / 'masks'}: holds no masks, so the pictures have none",
        ]

    def test_the_ending_of_a_mask_in_any_case(self, tmp_path: Path) -> None:
        assert masks(scan(tmp_path, *PLAIN, "masks/b_Mask.PNG")) == {"scratch/b.png": "masks/b_Mask.PNG"}

    def test_a_whole_set_says_nothing(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        scan(tmp_path, *PLAIN, "masks/scratch/b.png", "README", "good/notes.txt", "good/Thumbs.db", "good/.x.heic")
        assert lines(capsys) == []


class TestLinks:
    def test_linked_folders_are_walked(self, tmp_path: Path) -> None:
        outside = touch(tmp_path / "outside", "lot1/c.png", "lot1/deep/d.png", "masks/c.png")
        root = touch(tmp_path / "parts", *PLAIN, "masks/scratch/b.png")
        (root / "scratch" / "lot1").symlink_to(outside / "lot1")
        (root / "dent").symlink_to(outside / "lot1")
        (root / "masks" / "dent").symlink_to(outside / "masks")
        (root / "masks" / "scratch" / "lot1").symlink_to(outside / "masks")
        assert masks(folder.scan(root, folder.Options())) == {
            "dent/c.png": "masks/dent/c.png",
            "dent/deep/d.png": "",
            "scratch/b.png": "masks/scratch/b.png",
            "scratch/lot1/c.png": "masks/scratch/lot1/c.png",
            "scratch/lot1/deep/d.png": "",
        }

    def test_circles_are_left_and_said(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        outside = touch(tmp_path / "outside", "c.png")
        root = touch(tmp_path / "parts", *PLAIN)
        for name, target in {
            "good/up": root,
            "good/self": root / "good",
            "loop": root,
            "scratch/out": outside,
            "scratch/twice": outside,
        }.items():
            (root / name).symlink_to(target)
        (outside / "back").symlink_to(root / "scratch")
        (outside / "above").symlink_to(tmp_path)
        samples = folder.scan(root, folder.Options())
        assert [sample.image for sample in samples] == ["good/a.png", "scratch/b.png", "scratch/out/c.png"]
        assert lines(capsys) == [
            f"{root}: 6 links passed over, such as good/self; they lead to a folder above, or to one already read"
        ]

    def test_a_folder_keeps_its_own_path(self, tmp_path: Path) -> None:
        touch(tmp_path, "b/lot/x.png", "b/y.png")
        (tmp_path / "a").symlink_to(tmp_path / "b")
        assert images_in(tmp_path, deep=True) == [tmp_path / "b" / "lot" / "x.png", tmp_path / "b" / "y.png"]

    def test_broken_ones_are_said(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        touch(tmp_path, *PLAIN)
        for name in ("good/c.png", "spot", "good/notes.txt", "good/.d.png", "good/round"):
            (tmp_path / name).symlink_to(tmp_path / ("good/round" if name == "good/round" else "nowhere"))
        assert len(folder.scan(tmp_path, folder.Options())) == 2
        assert lines(capsys) == [f"{tmp_path}: 3 broken links passed over, such as good/c.png; mend or remove them"]

    def test_a_broken_class_folder_of_mvtec_is_said(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        touch(tmp_path, "train/good/a.png", "test/good/a.png")
        (tmp_path / "test" / "spot").symlink_to(tmp_path / "nowhere")
        mvtec.scan(tmp_path, mvtec.Options())
        assert "1 broken links passed over, such as spot" in "\n".join(lines(capsys))


class TestFilesThatAreNotRead:
    def test_a_class_without_a_picture(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        scan(tmp_path, *PLAIN, "spot/c.HEIC", "dent/d.gif", "dent/e.gif")
        assert lines(capsys) == [
            f"{tmp_path}: 3 files not listed as pictures (.gif 2, .heic 1), such as dent/d.gif; convert them to .png",
            f"{tmp_path}: no pictures in dent, spot, so no class of that name",
        ]

    def test_a_listing_by_itself(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert images_in(touch(tmp_path, "a.png", "sub/b.heic"), deep=True) == [tmp_path / "a.png"]
        assert lines(capsys) == [
            f"{tmp_path}: 1 files not listed as pictures (.heic 1), such as sub/b.heic; convert them to .png"
        ]

    def test_a_closed_folder(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        touch(tmp_path, *PLAIN, "scratch/lot/c.png")
        opened = os.scandir

        def refuse(path: Path) -> object:  # permissions would not stop a test that runs as root
            if path == tmp_path / "scratch" / "lot":
                raise PermissionError
            return opened(path)

        monkeypatch.setattr("ssl_defect.data.sources.walking.os.scandir", refuse)
        assert len(folder.scan(tmp_path, folder.Options())) == 2
        assert lines(capsys) == [
            f"{tmp_path}: 1 folders passed over, such as scratch/lot; they cannot be read; check their permissions"
        ]

    def test_nothing_is_said_twice(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        touch(tmp_path, *PLAIN, "spot/c.heic", "masks/b.png", "masks/b_gt.png", "loose.png")
        data = {"source": "folder", "root": str(tmp_path)}
        recipe = Recipe.model_validate({"name": "x", "data": data})
        before = inputs_digest(recipe)
        assert len(lines(capsys)) == 4
        assert inputs_digest(recipe) == before
        assert lines(capsys) == []
        touch(tmp_path, "spot/d.heic")
        inputs_digest(recipe)
        assert len(lines(capsys)) == 1


def test_the_order_of_a_plain_search(tmp_path: Path) -> None:
    """Splits follow the order, so it must stay that of sorted paths: `lot/` before `lot b/` and `lot.png`."""
    names = ("lot/b.png", "lot/a.JPG", "lot b/a.png", "lot.png", "Lot/a.png", "10.png", "9.png", "lot/deep/a.png")
    touch(tmp_path, *names, "x.png/y.png", ".hidden/a.png", "lot/.b.png", "lot/c.txt")
    plain = sorted(path for path in tmp_path.rglob("*") if path.suffix.lower() in (".png", ".jpg") and path.is_file())
    visible = [path for path in plain if not any(part.startswith(".") for part in path.relative_to(tmp_path).parts)]
    assert images_in(tmp_path, deep=True) == visible
