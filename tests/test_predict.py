"""predict: new pictures of any kind, judged from the run folder alone."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_defect import predict as predict_module
from ssl_defect.data.images import load_picture, to_square
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.detector import Detector, Spec, load_detector, save_detector
from ssl_defect.overlays import draw_overlay, overlay_names
from ssl_defect.predict import predict, read_picture

SIZE = 32
OPTIONS = {"dropout": 0.0, "decoder_width": 8, "score_share": 0.001}


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    def make(task: str = "segmentation", threshold: float = 0.5, pixel: float | None = 0.5, channels: int = 1) -> Path:
        run = tmp_path / "run"
        (run / "finetune").mkdir(parents=True)
        (run / "evaluate").mkdir()
        torch.manual_seed(0)
        spec = Spec(task, "test_resnet", SIZE, channels, ["good", "defective"], OPTIONS)
        save_detector(run / "finetune" / "model.safetensors", Detector(build_encoder("test_resnet", SIZE), spec))
        metrics = {"threshold": {"value": threshold, "rule": "max F1 on validation", "pixel": pixel}}
        (run / "evaluate" / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
        return run

    return make


def write_picture(path: Path, size: tuple[int, int] = (50, 40), mode: str = "L", seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    levels = np.random.default_rng(seed).integers(0, 256, shape)
    pixels = (levels * 257).astype(np.uint16) if mode == "I;16" else levels.astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def table(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_scores_are_those_of_the_detector(task: str, make_run: Callable[..., Path], tmp_path: Path) -> None:
    run, out = make_run(task), tmp_path / "out"
    paths = [write_picture(tmp_path / f"{n}.png", (SIZE, SIZE), seed=n) for n in range(3)]
    rows = predict(run, paths, out, device="cpu")
    x = torch.from_numpy(np.stack([load_picture(path)[0] for path in paths])).permute(0, 3, 1, 2).float() / 255
    expected = load_detector(run / "finetune" / "model.safetensors").predict(x)["score"].numpy()
    assert [row["score"] for row in rows] == pytest.approx(expected.tolist(), abs=0.01)
    assert [row["image"] for row in table(out)] == [str(path) for path in paths]
    assert [(row["area"] == "") for row in table(out)] == [task == "classification"] * 3


@pytest.mark.parametrize(("threshold", "verdict"), [(0.0, "defective"), (1.0, "good")])
def test_verdict_follows_the_threshold_of_the_run(
    threshold: float, verdict: str, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    rows = predict(make_run(threshold=threshold), [write_picture(tmp_path / "a.png")], tmp_path / "out", "cpu")
    assert rows[0]["verdict"] == verdict


def test_another_threshold_takes_the_place_of_the_runs_own(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run, picture = make_run(threshold=1.0), [write_picture(tmp_path / "a.png")]
    before = predict(run, picture, tmp_path / "a")[0]
    after = predict(run, picture, tmp_path / "b", threshold=0.0)[0]
    assert (before["verdict"], after["verdict"]) == ("good", "defective")
    assert before["score"] == after["score"]


@pytest.mark.parametrize(("pixel", "area"), [(0.0, 1.0), (1.0, 0.0), (None, 0.0)])
def test_area_follows_the_pixel_threshold(
    pixel: float | None, area: float, make_run: Callable[..., Path], tmp_path: Path
) -> None:
    rows = predict(make_run(pixel=pixel), [write_picture(tmp_path / "a.png")], tmp_path / "out", "cpu")
    assert rows[0]["area"] == area


def test_pictures_of_every_kind_and_overlays_at_their_own_size(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run, out = make_run(), tmp_path / "out"
    paths = [
        write_picture(tmp_path / "grey.png", (50, 40)),
        write_picture(tmp_path / "wide.jpg", (300, 20)),
        write_picture(tmp_path / "deep.png", (40, 40), "I;16"),
        write_picture(tmp_path / "colour.png", (40, 60), "RGB"),
    ]
    rows = predict(run, paths, out, "cpu")
    shapes = [load_picture(out / row["overlay"])[0].shape for row in rows]
    assert shapes == [(40, 50, 3), (20, 300, 3), (40, 40, 3), (60, 40, 3)]
    assert "16 bits" in rows[2]["note"]
    assert "detector of grey" in rows[3]["note"]


def test_colour_detector_takes_grey_pictures(make_run: Callable[..., Path], tmp_path: Path) -> None:
    rows = predict(make_run(channels=3), [write_picture(tmp_path / "a.png")], tmp_path / "out", "cpu")
    assert 0 <= rows[0]["score"] <= 1


def test_folders_are_searched_and_nothing_is_lost_to_equal_names(make_run: Callable[..., Path], tmp_path: Path) -> None:
    folder, out = tmp_path / "new", tmp_path / "new" / "out"
    for number, name in enumerate(("a/part.png", "b/part.png", "b/PART.jpg")):
        write_picture(folder / name, seed=number)
    (folder / "notes.txt").write_text("no picture")
    run = make_run()
    for _ in range(2):  # the second time the overlays of the first are not taken for pictures
        rows = predict(run, [folder, folder / "a" / "part.png"], out, "cpu")
        assert len(rows) == 3
        assert len({row["overlay"].lower() for row in rows}) == 3
        assert all((out / row["overlay"]).is_file() for row in rows)


def test_names_never_clash() -> None:
    names = overlay_names([Path(p) for p in ("x/a.png", "y/a.png", "a-2.png", "A.jpg", "b" * 250 + ".png")])
    assert len({name.lower() for name in names}) == 5
    assert all(len(name) < 220 for name in names)


def test_unreadable_pictures_are_listed_and_the_others_done(make_run: Callable[..., Path], tmp_path: Path) -> None:
    out, whole = tmp_path / "out", write_picture(tmp_path / "whole.png")
    broken, missing = tmp_path / "broken.png", tmp_path / "missing.png"
    broken.write_bytes(whole.read_bytes()[:200])
    with pytest.raises(UserError, match=r"2 of 3 pictures.*\(first: .*broken.png: .*the others are done"):
        predict(make_run(), [broken, whole, missing], out, "cpu")
    rows = table(out)
    assert [row["verdict"] == "error" for row in rows] == [True, False, True]
    assert rows[2]["note"] == "no such file"
    assert (out / rows[1]["overlay"]).is_file()


def test_many_pictures_keep_their_order(make_run: Callable[..., Path], tmp_path: Path) -> None:
    paths = [write_picture(tmp_path / f"{n:03d}.png", (16, 16), seed=n) for n in range(70)]
    rows = predict(make_run(), paths, tmp_path / "out", "cpu")
    alone = predict(tmp_path / "run", [paths[65]], tmp_path / "alone", "cpu")
    assert [row["image"] for row in rows] == [str(path) for path in paths]
    assert rows[65]["score"] == pytest.approx(alone[0]["score"], abs=1e-3)


def test_an_interrupted_one_lists_what_it_judged(
    make_run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [write_picture(tmp_path / f"{n:03d}.png", (16, 16), seed=n) for n in range(40)]
    judged = predict_module._judged

    def stop(*args: Any) -> Iterator[dict[str, Any]]:
        yield from itertools.islice(judged(*args), 33)
        raise KeyboardInterrupt

    monkeypatch.setattr(predict_module, "_judged", stop)
    with pytest.raises(KeyboardInterrupt):
        predict(make_run(), paths, tmp_path / "out", "cpu")
    assert [row["image"] for row in table(tmp_path / "out")] == [str(path) for path in paths[:33]]
    assert "33 of 40 pictures are judged" in capsys.readouterr().err


def test_the_folder_of_the_pictures_may_take_the_predictions(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run, folder = make_run(), tmp_path / "new"
    folder.mkdir()
    write_picture(folder / "a.png")
    for _ in range(2):  # the overlays of the first time are no pictures of the second
        assert [row["image"] for row in predict(run, [folder], folder, "cpu")] == [str(folder / "a.png")]


@pytest.mark.parametrize(("missing", "stage"), [("finetune", "finetune"), ("evaluate", "evaluate")])
def test_a_run_that_lacks_a_stage(missing: str, stage: str, make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run()
    next((run / missing).iterdir()).unlink()
    with pytest.raises(UserError, match=f"missing; run `ssl-defect {stage}` first"):
        predict(run, [write_picture(tmp_path / "a.png")], tmp_path / "out", "cpu")


def test_nothing_to_judge(make_run: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no pictures in"):
        predict(make_run(), [tmp_path / "empty"], tmp_path / "out", "cpu")


def test_output_that_cannot_be_written(make_run: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file is in the way")
    with pytest.raises(UserError, match="give another folder with --out"):
        predict(make_run(), [write_picture(tmp_path / "a.png")], tmp_path / "out", "cpu")


@pytest.mark.parametrize(("height", "width"), [(100, 60), (17, 200), (16, 16)])
def test_overlay_shows_a_defect_of_one_cell_at_any_size(height: int, width: int) -> None:
    pixels = np.full((height, width, 1), 128, np.uint8)
    mask = np.zeros((32, 32), bool)
    mask[20, 9] = True
    plain = draw_overlay(pixels, np.zeros((32, 32), np.float32), None)
    drawn = draw_overlay(pixels, np.zeros((32, 32), np.float32), mask)
    changed = np.argwhere((plain != drawn).any(axis=2))
    assert len(changed)
    assert np.abs((changed + 0.5) / [height, width] - [20.5 / 32, 9.5 / 32]).max() < 0.08
    assert (drawn[tuple(changed[0])] == (255, 0, 255)).all()


def test_overlay_is_hot_where_the_map_is() -> None:
    heat = np.zeros((32, 32), np.float32)
    heat[:, 16:] = 1.0
    drawn = draw_overlay(np.full((64, 64, 3), 100, np.uint8), heat, None)
    assert (drawn[:, :20] == 100).all()
    assert not (drawn[:, 50:] == 100).all(axis=2).any()


def test_a_picture_is_prepared_as_prepare_does(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.png", (90, 70))
    spec = Spec("segmentation", "test_resnet", SIZE, 1, ["good", "defective"])
    assert np.array_equal(read_picture(path, spec).square, to_square(load_picture(path)[0], SIZE))
