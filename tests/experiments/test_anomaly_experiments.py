"""Detectors from good images alone: their sets are honest, and the scripts go on and end."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import forks
import numpy as np
import pytest
from PIL import Image

from ssl_defect.artifacts import read_json
from ssl_defect.data.records import Sample

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

import anomaly
import one_class

from ssl_defect import pipeline

SAMPLES = [
    *(Sample(f"MT_Free/Imgs/{i:03}.jpg", "", 0, "good", group=i // 4) for i in range(80)),
    *(
        Sample(f"MT_Crack/Imgs/{i:03}.jpg", f"MT_Crack/Imgs/{i:03}.png", 1, "Crack", group=20 + i // 4)
        for i in range(16)
    ),
    Sample("MT_Crack/Imgs/099.jpg", "MT_Crack/Imgs/099.png", 1, "Crack", group=0),  # its tile is good in other light
]


def parts(places: dict[str, str], start: str) -> list[Sample]:
    by_name = {sample.image: sample for sample in SAMPLES}
    return [by_name[picture] for place, picture in places.items() if place.startswith(start)]


@pytest.mark.parametrize("by", ["image", "group"])
def test_four_fifths_of_the_good_are_trained_on_and_all_else_is_tested(by: str) -> None:
    places = one_class.held_out_good(SAMPLES, by=by)
    train, test = parts(places, "train/good"), parts(places, "test")
    assert (len(train), sum(sample.label for sample in train)) == (64, 0)
    assert sum(sample.label for sample in test) == 17
    assert {sample.image for sample in train + test} == {sample.image for sample in SAMPLES}
    shared = {sample.group for sample in train} & {sample.group for sample in test}
    assert bool(shared) == (by == "image")
    assert "ground_truth/Crack/MT_Crack__Imgs__099_mask.png" in places


def test_another_seed_trains_on_others_and_the_order_of_samples_means_nothing() -> None:
    found = one_class.held_out_good(SAMPLES, seed=1)
    assert found == one_class.held_out_good(SAMPLES[::-1], seed=1)
    assert found != one_class.held_out_good(SAMPLES, seed=2)


def test_defects_among_the_good_come_from_train_and_from_many_parts() -> None:
    samples = [replace(s, split="test" if s.group % 2 else ("val" if s.group == 2 else "train")) for s in SAMPLES]
    pure, mixed = (one_class.with_defects(samples, share) for share in (0.0, 0.05))
    missed = [sample for sample in parts(mixed, "train/good") if sample.label]
    assert len(parts(pure, "train/good")) == 40
    assert not any(sample.label for sample in parts(pure, "train/good"))
    assert len(missed) == 2 == len({sample.group for sample in missed})  # 2 of 42
    assert not any(sample.group % 2 for sample in missed)
    assert parts(pure, "test") == parts(mixed, "test")
    assert len(parts(pure, "test")) == sum(sample.group % 2 for sample in samples)


def test_links_are_made_anew_for_other_pictures_only(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in "ab":
        (tmp_path / "set" / f"{name}.png").write_text(name)
    out = one_class.link({"train/good/x.png": "a.png"}, tmp_path / "set", tmp_path / "out")
    assert (out / "train/good/x.png").read_text() == "a"
    before = (out / one_class.MARK).stat().st_mtime_ns
    one_class.link({"train/good/x.png": "a.png"}, tmp_path / "set", out)
    assert (out / one_class.MARK).stat().st_mtime_ns == before
    one_class.link({"test/good/y.png": "b.png"}, tmp_path / "set", out)
    assert [path.name for path in out.rglob("*.png")] == ["y.png"]


def write_tiles(folder: Path) -> Path:
    """Magnetic Tile in small: noise, some of it with a bright square."""
    draw = np.random.default_rng(0)
    for name, count in (("Free", 40), ("Crack", 12)):
        place = folder / f"MT_{name}" / "Imgs"
        place.mkdir(parents=True)
        for number in range(count):
            picture, mask = draw.normal(120, 20, (40, 40)), np.zeros((40, 40), np.uint8)
            if name == "Crack":
                row, column = draw.integers(0, 28, 2)
                picture[row : row + 10, column : column + 10] += 90
                mask[row : row + 10, column : column + 10] = 255
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(place / f"{number:03}.jpg", quality=95)
            Image.fromarray(mask).save(place / f"{number:03}.png")
    return folder


def table_of(what: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> dict[str, Any]:
    """A table of small tiles, its runs one after the other in this process; the values that it shows."""
    settings = ["data.copies=false", "evaluate.bootstrap=100", "pretrain.batch_size=8", "pretrain.snapshots=0"]
    options = ["--root", f"magnetic_tile={folder / 'tiles'}", "--out", str(folder / "out")]
    options += ["--backbone", "test_resnet", "--size", "32", *more]
    options += [text for setting in settings for text in ("--set", setting)]

    def run_each(names: list[str], out: Path, jobs: int) -> None:
        for name in names:
            monkeypatch.setattr(sys, "argv", ["anomaly.py", what, *options, "--cell", name])
            anomaly.main()

    monkeypatch.setattr(anomaly, "run_each", run_each)
    monkeypatch.setattr(sys, "argv", ["anomaly.py", what, *options])
    if not (folder / "tiles").exists():
        write_tiles(folder / "tiles")
    anomaly.main()
    found: dict[str, Any] = read_json(folder / "out" / f"{what}.json")["runs"]
    return found


def lines_of(shown: str, start: str, after: str = "") -> list[str]:
    return [line for line in shown[shown.index(after) :].splitlines() if line.startswith(start)]


@pytest.mark.slow
def test_encoders_are_compared_with_a_baseline_and_nothing_runs_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--detectors", "padim,knn", "--methods", "none,simclr", "--start", "random", "--epochs", "1"]
    found = table_of("encoders", tmp_path, monkeypatch, *more, "--baseline", "none")
    shown = capsys.readouterr().out
    assert set(found) == {f"{detector}-{method}" for detector in ("padim", "knn") for method in ("none", "simclr")}
    assert found["knn-none"]["pixel ap"] is None
    assert 0 <= found["padim-simclr"]["pixel aupro"]["value"] <= 1
    (line,) = lines_of(shown, "| simclr | `padim`", "Difference from none")
    margin = found["padim-simclr"]["image auroc"]["value"] - found["padim-none"]["image auroc"]["value"]
    assert line.split("|")[3].strip(" *").startswith(f"{margin:+.3f} (")
    monkeypatch.setattr(pipeline, "run", lambda *_: pytest.fail("nothing is to run"))
    assert table_of("encoders", tmp_path, monkeypatch, *more, "--baseline", "none", "--table") == found


@pytest.mark.slow
def test_protocols_stand_beside_the_published_figures_and_brightness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--detectors", "padim", "--val", "0.2", "--set", "pretrain.method=none"]
    found = table_of("protocols", tmp_path, monkeypatch, *more)
    shown = capsys.readouterr().out
    # a square of 90 more on a sixteenth of the picture: light alone finds it
    assert found["tiles, random: mean brightness"]["value"] > 0.9
    assert lines_of(shown, "| tiles, random | published: DifferNet (arXiv 2008.12577, in arXiv 2106.08265) | 0.977 |")
    for kind in ("random", "group"):
        metrics = read_json(tmp_path / "out" / f"tiles-{kind}-padim" / "evaluate" / "metrics.json")
        assert (metrics["counts"]["good"], metrics["counts"]["defective"]) == (8, 12)
        assert found[f"tiles-{kind}-padim"]["image auroc"]["value"] == metrics["image"]["auroc"]["value"]


@pytest.mark.slow
def test_contamination_is_compared_with_good_images_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--detectors", "knn", "--set", "pretrain.method=none", "--share", "0.1", "--clean", "0.2"]
    found = table_of("contamination", tmp_path, monkeypatch, *more)
    shown = capsys.readouterr().out
    assert set(found) == {
        f"magnetic_tile-knn-{kind}{clean}" for kind in ("pure", "contaminated") for clean in ("", "-clean")
    }
    for start in ("| tiles, good only, clean |", "| tiles, 10% defective |", "| tiles, 10% defective, clean |"):
        assert len(lines_of(shown.partition("| left out")[0], start, "Difference from good only")) == 1
    pure, mixed = (
        len(list((tmp_path / "out" / "links" / f"magnetic_tile-{kind}" / "train" / "good").iterdir()))
        for kind in ("pure", "contaminated")
    )
    assert (pure, mixed) == (20, 22)  # a tenth of 22, rounded
    left = lines_of(shown, "| tiles, 10% defective, clean |", "| training images | detector | left out")
    assert re.fullmatch(r"\| tiles, .* \| `knn` \| \d+ \| [012] \| \d of \d+ \|", left[0])


@pytest.mark.slow
def test_the_benchmark_measures_our_side_and_leaves_out_a_peer_that_is_missing(tmp_path: Path) -> None:
    script = Path(anomaly.__file__).parent / "benchmarks" / "anomaly.py"
    command = ["--root", write_tiles(tmp_path / "tiles"), "--out", tmp_path / "out"]
    command += ["--size", "32", "--rows", "anomalib, PaDiM; ours, PaDiM", "--weights", "random", "--threads", "1"]
    command += ["--singles", "2", "--images", "20", "--test", "20", "--peer-python", ""]
    done = forks.run(script, *command)
    assert done.returncode == 0, done.stderr[-2000:]
    row = read_json(tmp_path / "out" / "anomaly.json")["rows"]["ours, PaDiM"]
    assert all(0 <= row[name]["value"] <= 1 for name in ("image auroc", "pixel ap", "pixel aupro"))
    assert all(row[name] > 0 for name in ("features_s", "rest_s", "ms_batch_1", "ms_batch_32", "peak_mib"))
    assert done.stdout.count("| ours, PaDiM |") == 1
    assert ("| anomalib, PaDiM |" in done.stdout) != ("anomalib is not installed here" in done.stderr)
