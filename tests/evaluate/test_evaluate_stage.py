"""The stage on a tiny prepared folder: with a detector whose answers are known, and with real networks."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from ssl_defect.config import Recipe
from ssl_defect.data.records import Sample, write_samples
from ssl_defect.errors import UserError
from ssl_defect.evaluate import stage
from ssl_defect.evaluate.kept_counts import PIXELS, read_counts
from ssl_defect.evaluate.regions import pixel_family
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.detector import Detector, Spec, save_detector

SIZE = 32
CLASSES = ["good", "crack", "spot"]
AUDIT = {"protocol": "supervised", "split": "group", "split_digest": "abc", "mask_rule": "above half"}


def _recipe(task="segmentation", **evaluate):
    settings = {"bootstrap": 100, "embeddings": False, "gradcam": 0, **evaluate}
    data = {"source": "folder", "root": "nowhere", "image_size": SIZE}
    return Recipe.model_validate(
        {"name": "tiny", "data": data, "finetune": {"task": task}, "evaluate": settings, "compute": {"device": "cpu"}}
    )


def _prepare(folder, defects, masks=True, unmasked=()):
    """A quarter of the pictures for validation; defects are bright squares on dark noise."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (len(defects), SIZE, SIZE, 1), dtype=np.uint8)
    drawn = np.zeros((len(defects), SIZE, SIZE), np.uint8)
    samples = []
    for row, defect in enumerate(defects):
        bad = defect != "good"
        if bad:
            y, x = rng.integers(0, SIZE - 8, 2)
            images[row, y : y + 8, x : x + 8] = 255
            drawn[row, y : y + 8, x : x + 8] = row not in unmasked
        split = "val" if row // 2 % 4 == 0 else "test"
        samples.append(Sample(f"{defect}/{row}.png", label=int(bad), defect=defect, group=row // 2, split=split))
    np.save(folder / "images.npy", images)
    if masks:
        np.save(folder / "masks.npy", drawn)
    write_samples(folder / "samples.csv", samples)
    (folder / "audit.json").write_text(json.dumps(AUDIT))
    return folder


DEFECTS = [CLASSES[i % 3 if i % 2 else 0] for i in range(48)]


class Known(nn.Module):
    """Says of every pixel how bright it is, and of an image how bright its brightest pixel."""

    def __init__(self, task="segmentation", classes=("good", "defective"), broken=False):
        super().__init__()
        self.spec = Spec(task, "none", SIZE, 1, list(classes))
        self.encoder, self.broken = nn.Identity(), broken

    def predict(self, x):
        score = x.flatten(1).amax(1) * (float("nan") if self.broken else 1)
        if self.spec.task == "segmentation":
            return {"score": score, "map": x[:, 0]}
        rest = score[:, None].expand(-1, len(self.spec.classes) - 1) / (len(self.spec.classes) - 1)
        return {"score": score, "probabilities": torch.cat([1 - score[:, None], rest], 1)}

    def features(self, x):
        return torch.nn.functional.avg_pool2d(x, 8).flatten(1)


def _evaluate(tmp_path, monkeypatch, detector, recipe=None, **kind):
    prepared = _prepare(tmp_path / "prepare", kind.pop("defects", DEFECTS), **kind)
    monkeypatch.setattr(stage, "load_detector", lambda path: detector)
    out = tmp_path / "evaluate"
    out.mkdir()
    stage.evaluate(recipe or _recipe(), prepared, tmp_path / "pretrain", tmp_path / "finetune", out)
    return out


def _read(out):
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return json.loads((out / "metrics.json").read_text()), json.loads((out / "curves.json").read_text()), rows


def test_a_perfect_segmenter_is_perfect_everywhere(tmp_path, monkeypatch):
    out = _evaluate(tmp_path, monkeypatch, Known())
    metrics, curves, rows = _read(out)
    for name in ("auroc", "ap", "precision", "recall", "f1", "accuracy"):
        assert metrics["image"][name]["value"] == metrics["image"][name]["high"] == 1, name
        assert 0.5 < metrics["image"][name]["low"] < 1, name  # so few groups could be all right by chance
    for name in ("auroc", "ap", "aupro", "iou", "dice"):
        assert metrics["pixel"][name]["value"] == pytest.approx(1, abs=1e-6), name
    assert metrics["threshold"]["rule"] == "max F1 on validation"
    assert metrics["threshold"]["pixel_rule"] == "max Dice on validation"
    assert metrics["protocol"]["split_digest"] == "abc"
    assert set(metrics["classes"]) == {"crack", "spot"}
    assert metrics["counts"]["good"] + metrics["counts"]["defective"] == metrics["counts"]["test"] == 36
    assert sum(metrics["image"]["confusion"].values()) == 36
    assert set(curves) == {"roc", "pr", "bands", "pixel_roc", "pixel_pr", "pro", "classes"}
    assert not list(out.glob(".*"))
    assert [row["split"] for row in rows] == ["val"] * 12 + ["test"] * 36
    for row in rows:
        assert row["verdict"] == ("good" if row["label"] == "0" else "defective")
        assert float(row["area_true"]) == float(row["area_predicted"])


def test_maps_are_kept_in_the_order_of_the_test_rows(tmp_path, monkeypatch):
    out = _evaluate(tmp_path, monkeypatch, Known())
    _, _, rows = _read(out)
    test = [int(row["row"]) for row in rows if row["split"] == "test"]
    images = np.load(tmp_path / "prepare" / "images.npy")
    assert np.array_equal(np.load(out / "maps.npy"), images[test, :, :, 0])


def test_the_counts_kept_give_the_recorded_metrics_of_maps_too_faint_to_keep(tmp_path, monkeypatch):
    class Faint(Known):
        def predict(self, x):
            noise = torch.rand(x[:, 0].shape, generator=torch.Generator().manual_seed(0))
            found = super().predict(x)
            return found | {"map": found["map"] * 2e-4 + noise * 1e-3}

    metrics, _, _ = _read(out := _evaluate(tmp_path, monkeypatch, Faint()))
    assert not np.load(out / "maps.npy").any()
    kept = read_counts(out / PIXELS)
    found = pixel_family(kept.counts, kept.threshold, metrics["pixel"]["aupro_limit"])(np.ones((1, len(kept.known))))
    for name in ("auroc", "ap", "aupro", "iou", "dice"):
        assert float(found[name][0]) == metrics["pixel"][name]["value"], name
    assert 0.1 < metrics["pixel"]["aupro"]["value"] < 0.9


def test_the_files_agree_with_each_other(tmp_path, monkeypatch):
    defects = [*DEFECTS]
    prepared = _prepare(tmp_path / "prepare", defects)
    images = np.load(prepared / "images.npy")
    images[::5] = np.minimum(images[::5], 90)  # some defects are hidden
    images[1::7, 3, 3] = 200  # and some good parts look bad
    np.save(prepared / "images.npy", images)
    monkeypatch.setattr(stage, "load_detector", lambda path: Known())
    out = tmp_path / "evaluate"
    out.mkdir()
    stage.evaluate(_recipe(), prepared, tmp_path, tmp_path, out)
    metrics, _, rows = _read(out)
    test = [row for row in rows if row["split"] == "test"]
    labels, scores = [int(row["label"]) for row in test], [float(row["score"]) for row in test]
    assert metrics["image"]["auroc"]["value"] == pytest.approx(roc_auc_score(labels, scores))
    assert 0.5 < metrics["image"]["auroc"]["value"] < 1
    assert np.mean([int(row["correct"]) for row in test]) == pytest.approx(metrics["image"]["accuracy"]["value"])
    assert metrics["image"]["auroc"]["low"] < metrics["image"]["auroc"]["value"]


def test_classification_has_no_pixels_and_a_matrix_of_classes(tmp_path, monkeypatch):
    detector = Known("classification", CLASSES)
    out = _evaluate(tmp_path, monkeypatch, detector, _recipe("classification"), masks=False)
    metrics, curves, rows = _read(out)
    assert metrics["pixel"] is None
    assert metrics["threshold"]["pixel"] is None
    assert curves["pro"] is None
    assert not (out / "maps.npy").exists()
    assert not (out / PIXELS).exists()
    assert metrics["class_confusion"]["classes"] == CLASSES
    assert np.sum(metrics["class_confusion"]["matrix"]) == 36
    assert {row["area_true"] for row in rows} == {""}
    assert {row["predicted_class"] for row in rows} <= set(CLASSES)


def test_two_classes_need_no_matrix(tmp_path, monkeypatch):
    out = _evaluate(tmp_path, monkeypatch, Known("classification"), _recipe("classification"), masks=False)
    assert _read(out)[0]["class_confusion"] is None


def test_a_defect_without_a_mask_is_left_out_of_pixel_metrics(tmp_path, monkeypatch):
    unmasked = {row for row in range(48) if DEFECTS[row] == "spot"}
    metrics, _, rows = _read(_evaluate(tmp_path, monkeypatch, Known(), unmasked=unmasked))
    spots = sum(row["defect"] == "spot" and row["split"] == "test" for row in rows)
    assert metrics["pixel"]["images"] == 36 - spots
    assert metrics["pixel"]["auroc"]["value"] == pytest.approx(1)
    assert metrics["classes"]["spot"]["pixel"]["auroc"]["value"] is None
    assert metrics["classes"]["spot"]["image"]["auroc"]["value"] == 1
    assert {row["area_true"] for row in rows if row["defect"] == "spot"} == {""}


@pytest.mark.parametrize("defect", ["good", "spot"])
def test_one_class_alone_is_null_with_a_reason(tmp_path, monkeypatch, defect):
    metrics, curves, _ = _read(_evaluate(tmp_path, monkeypatch, Known(), defects=[defect] * 24))
    assert metrics["image"]["auroc"]["value"] is None
    assert metrics["image"]["auroc"]["why"]
    assert curves["roc"] is None
    assert metrics["threshold"]["rule"] != "max F1 on validation"


def test_a_class_with_one_test_image_has_a_value_and_no_interval(tmp_path, monkeypatch):
    defects = [*DEFECTS, "good", "good", "good", "scratch"]
    metrics, _, _ = _read(_evaluate(tmp_path, monkeypatch, Known(), defects=defects))
    found = metrics["classes"]["scratch"]
    assert found["images"] == 1
    assert found["image"]["recall"]["value"] == 1
    assert found["image"]["recall"]["low"] is None
    assert found["pixel"]["aupro"]["value"] == pytest.approx(1, abs=1e-6)


def test_nan_is_refused_with_the_name_of_the_image(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"\.png: the detector gives NaN"):
        _evaluate(tmp_path, monkeypatch, Known(broken=True))
    assert not (tmp_path / "evaluate" / "metrics.json").exists()
    assert not list((tmp_path / "evaluate").glob(".*"))


def test_another_image_size_is_refused(tmp_path, monkeypatch):
    detector = Known()
    detector.spec = Spec("segmentation", "none", 64, 1, ["good", "defective"])
    with pytest.raises(UserError, match="pictures are 32 pixels, the detector takes 64"):
        _evaluate(tmp_path, monkeypatch, detector)


def test_no_test_images_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no test images"):
        _evaluate(tmp_path, monkeypatch, Known(), defects=["good"])


@pytest.mark.slow
def test_embeddings_are_of_the_test_rows_and_of_validation(tmp_path, monkeypatch):
    recipe = _recipe(embeddings=True)
    out = _evaluate(tmp_path, monkeypatch, Known(), recipe)
    with (out / "embeddings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    known = _read(out)[2]
    assert [row["row"] for row in rows] == [
        row["row"] for split in ("test", "val") for row in known if row["split"] == split
    ]
    assert {row["split"] for row in rows} == {"test", "val"}
    assert all(np.isfinite(float(row[key])) for row in rows for key in ("pca_x", "tsne_y", "umap_x"))


@pytest.mark.parametrize(
    ("task", "backbone"), [("classification", "resnet18"), ("segmentation", "resnet18"), ("classification", "test_vit")]
)
def test_a_real_detector_from_its_file_alone(tmp_path, task, backbone):
    torch.manual_seed(0)
    options = {"dropout": 0.0} if task == "classification" else {"decoder_width": 8, "score_share": 0.01}
    spec = Spec(task, backbone, SIZE, 1, ["good", "defective"], options)
    finetuned, out = tmp_path / "finetune", tmp_path / "evaluate"
    finetuned.mkdir()
    out.mkdir()
    save_detector(finetuned / "model.safetensors", Detector(build_encoder(backbone, SIZE), spec))
    prepared = _prepare(tmp_path / "prepare", DEFECTS[:20])
    stage.evaluate(_recipe(task, gradcam=5), prepared, tmp_path / "pretrain", finetuned, out)
    metrics, _, rows = _read(out)
    assert (metrics["pixel"] is None) == (task == "classification")
    assert metrics["protocol"]["task"] == task
    with np.load(out / "gradcam.npz") as cams:
        assert cams["cam"].dtype == np.uint8
        assert cams["cam"].shape == (len(cams["rows"]), SIZE, SIZE)
        assert ("relevance" in cams) == (backbone == "test_vit")
        assert "relevance" not in cams or cams["relevance"].shape == cams["cam"].shape
        assert set(cams["rows"]) <= {int(row["row"]) for row in rows if row["split"] == "test"}
        assert 0 < len(cams["rows"]) <= 5


def test_metrics_modules_do_not_import_torch():
    import subprocess
    import sys

    names = ("metrics", "regions", "levels", "bootstrap", "thresholds")
    code = (
        "import sys;"
        + "".join(f"import ssl_defect.evaluate.{name};" for name in names)
        + "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
