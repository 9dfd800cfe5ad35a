"""The whole stage on a small set: it learns, keeps the best, resumes exactly and refuses what cannot be learnt."""

from __future__ import annotations

import csv
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from forks import Forked
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score, roc_auc_score

from ssl_defect.config import dump_yaml
from ssl_defect.data.store import Store
from ssl_defect.errors import UserError
from ssl_defect.finetune import TASKS
from ssl_defect.finetune.stage import finetune
from ssl_defect.nets.detector import Detector, load_detector

Make = Callable[..., "Case"]  # noqa: F821 - see conftest


def run(case, out: Path) -> Detector:
    finetune(case.recipe, case.prepared, case.pretrained, out)
    return load_detector(out / "model.safetensors")


def history(out: Path) -> list[dict[str, float]]:
    with (out / "history.csv").open(encoding="utf-8") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def predictions(detector: Detector, store: Store, split: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    rows = store.rows(split)
    x = torch.from_numpy(store.images[rows]).permute(0, 3, 1, 2).float() / 255
    return rows, {name: value.numpy() for name, value in detector.predict(x).items()}


SETTINGS = {
    "classification": {"steps": 80},
    "detection": {"steps": 80, "options": {"architecture": "fcos", "width": 32}},
    "instance": {"steps": 60, "options": {"width": 32}},
    "regression": {"steps": 160},
    "segmentation": {"steps": 80, "options": {"decoder_width": 8}},
}
OPTIONS = {task: settings.get("options", {}) for task, settings in SETTINGS.items()}


def test_every_task_is_tried() -> None:
    assert set(SETTINGS) == set(TASKS)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("task", TASKS)
def test_learns_an_easy_texture(task: str, backbone: str, make_case: Make, tmp_path: Path) -> None:
    rates = {"learning_rate": 1e-2, "encoder_learning_rate": 1e-3}
    kinds = ("good", "spot")
    case = make_case(kinds=kinds, count=120, task=task, backbone=backbone, eval_every=20, **rates, **SETTINGS[task])
    detector = run(case, tmp_path)
    rows, found = predictions(detector, case.store, "test")
    assert roc_auc_score(case.store.labels[rows], found["score"]) > 0.9
    if task == "segmentation":
        assert average_precision_score(case.store.masks[rows].ravel(), found["map"].ravel()) > 0.5
    rows_of_history = history(tmp_path)
    assert rows_of_history[-1]["loss"] < 0.95 * rows_of_history[0]["loss"]
    assert detector.spec.task == task
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize("task", TASKS)
def test_records_what_was_done(task: str, make_case: Make, tmp_path: Path) -> None:
    case = make_case(task=task, labels_per_class=5, steps=20, options=OPTIONS[task])
    run(case, tmp_path)
    about = json.loads((tmp_path / "finetune.json").read_text())
    best = max(history(tmp_path), key=lambda row: row["validation"])
    assert about["labels"] == {"good": 5, "scratch": 5, "spot": 5}
    assert about["best_validation"] == pytest.approx(best["validation"])
    assert about["classes"] == ["good", "defective"]
    assert about["task"] == task
    assert about["stopped_early"] is False
    assert about["precision"] == "float32"
    assert [row["step"] for row in history(tmp_path)] == [10, 20]
    assert set(history(tmp_path)[0]) >= {"step", "loss", "learning_rate", "validation"}


def test_tells_the_defects_apart(make_case: Make, tmp_path: Path) -> None:
    case = make_case(steps=100, options={"target": "defect", "losses": {"focal": 1}})
    detector = run(case, tmp_path)
    rows, found = predictions(detector, case.store, "test")
    assert detector.spec.classes == ["good", "scratch", "spot"]
    expected = [detector.spec.classes.index(case.store.defects[row]) for row in rows]
    assert np.mean(found["probabilities"].argmax(axis=1) == expected) > 0.8
    np.testing.assert_allclose(found["score"], 1 - found["probabilities"][:, 0], atol=1e-6)


def test_best_detector_is_kept_not_the_last(make_case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ssl_defect.finetune.classification import Classification
    from ssl_defect.finetune.task import Validation

    looks = iter([(0.6, 1.0), (0.9, 0.5), (0.9, 0.7), (0.9, 0.4), (0.1, 0.1), (0.1, 0.1)])
    weights = []

    def scripted(self: Classification, batches: object) -> Validation:
        weights.append(self.detector.head.linear.weight.detach().clone())
        return Validation("AUROC", *next(looks))

    monkeypatch.setattr(Classification, "validation", scripted)
    case = make_case(steps=60, patience=2)
    detector = run(case, tmp_path)
    about = json.loads((tmp_path / "finetune.json").read_text())
    assert about["best_step"] == 40  # of the three equal ones the lowest loss
    assert torch.equal(detector.head.linear.weight, weights[3])
    assert not torch.equal(weights[3], weights[-1])


def test_stops_early(make_case: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ssl_defect.finetune.classification import Classification
    from ssl_defect.finetune.task import Validation

    monkeypatch.setattr(Classification, "validation", lambda self, batches: Validation("AUROC", 0.5, 1.0))
    run(make_case(steps=1000, eval_every=2, patience=3), tmp_path)
    about = json.loads((tmp_path / "finetune.json").read_text())
    assert about["stopped_early"] is True
    assert about["steps"] == 8


def test_a_rate_of_zero_freezes_the_encoder_with_its_statistics(make_case: Make, tmp_path: Path) -> None:
    case = make_case(encoder_learning_rate=0, origin="ImageNet (somewhere)")
    detector = run(case, tmp_path)
    before = load_file(case.pretrained / "encoder.safetensors")
    after = detector.encoder.body.state_dict()
    assert all(torch.equal(after[name.removeprefix("encoder.")], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("origin", "setting", "frozen"),
    [
        ("random initialisation", "auto", False),
        ("ImageNet (somewhere)", "auto", True),
        ("ImageNet (somewhere)", "train", False),
        ("random initialisation", "frozen", True),
    ],
)
def test_batch_norm_statistics(origin: str, setting: str, frozen: bool, make_case: Make, tmp_path: Path) -> None:
    case = make_case(steps=4, eval_every=4, origin=origin, batch_norm=setting)
    body = run(case, tmp_path).encoder.body
    before = load_file(case.pretrained / "encoder.safetensors")
    kept = [torch.equal(body.state_dict()[n], before[f"encoder.{n}"]) for n in body.state_dict() if "running_mean" in n]
    assert kept
    assert all(kept) if frozen else not any(kept)
    moved = [not torch.equal(v, before[f"encoder.{n}"]) for n, v in body.named_parameters()]
    assert all(moved)


@pytest.mark.parametrize("task", TASKS)
def test_same_seed_same_weights_other_seed_others(task: str, make_case: Make, tmp_path: Path) -> None:
    case = make_case(task=task, steps=6, eval_every=3, labels_per_class=5, options=OPTIONS[task])
    results = []
    for number, seed in enumerate((0, 0, 1)):
        recipe = case.recipe.model_copy(update={"seed": seed})
        finetune(recipe, case.prepared, case.pretrained, tmp_path / str(number))
        results.append(load_file(tmp_path / str(number) / "model.safetensors"))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert not all(torch.equal(results[0][name], results[2][name]) for name in results[0])


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_killed_run_goes_on_and_ends_with_the_same_weights(task: str, make_case: Make, tmp_path: Path) -> None:
    case = make_case(task=task, steps=12, eval_every=2, patience=99, options=OPTIONS[task])
    (tmp_path / "recipe.yaml").write_text(dump_yaml(case.recipe), encoding="utf-8")
    whole, out = tmp_path / "whole", tmp_path / "killed"
    run(case, whole)
    words = [tmp_path / "recipe.yaml", case.prepared, case.pretrained, out]
    with Forked(Path(__file__).with_name("killed_finetuning.py"), *words) as killed:
        wait_for(lambda: (out / "checkpoint.pt").exists() and len(history(out)) >= 3)
        killed.kill()
        assert killed.returncode == -signal.SIGKILL
    assert not (out / "finetune.json").exists()
    assert len(history(out)) < 6
    run(case, out)
    expected, found = load_file(whole / "model.safetensors"), load_file(out / "model.safetensors")
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert (whole / "history.csv").read_bytes() == (out / "history.csv").read_bytes()


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the run did not get that far"
        time.sleep(0.01)


def test_encoder_of_another_backbone_is_refused(make_case: Make, tmp_path: Path) -> None:
    case, other = make_case(), make_case(backbone="test_vit")
    with pytest.raises(UserError, match=r"test_vit.*test_resnet"):
        finetune(case.recipe, case.prepared, other.pretrained, tmp_path)


@pytest.mark.parametrize("kinds", [("good",), ("spot",)])
def test_one_class_only(kinds: tuple[str, ...], make_case: Make, tmp_path: Path) -> None:
    case = make_case(kinds=kinds, count=12)
    with pytest.raises(UserError, match=rf"all '{kinds[0]}'.*at least two classes"):
        finetune(case.recipe, case.prepared, case.pretrained, tmp_path)


def test_segmentation_of_good_parts_only(make_case: Make, tmp_path: Path) -> None:
    case = make_case(kinds=("good",), count=12, task="segmentation")
    with pytest.raises(UserError, match="none of the 6 labelled training images has a mask"):
        finetune(case.recipe, case.prepared, case.pretrained, tmp_path)


def test_segmentation_without_masks(make_case: Make, tmp_path: Path) -> None:
    case = make_case(masks=False, task="segmentation")
    with pytest.raises(UserError, match=r"needs masks and this set has none; set finetune.task to classification"):
        finetune(case.recipe, case.prepared, case.pretrained, tmp_path)


def test_more_labels_asked_for_than_there_are(
    make_case: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = make_case(labels_per_class=500, steps=2, eval_every=2)
    run(case, tmp_path)
    assert "fewer than 500 training images of good (15), scratch (15), spot (15)" in capsys.readouterr().err
    assert json.loads((tmp_path / "finetune.json").read_text())["labels"]["good"] == 15


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "segmentaton"}, "did you mean 'segmentation'"),
        ({"options": {"smothing": 0.1}}, "did you mean 'smoothing'"),
        ({"options": {"class_weights": {"bad": 2}}}, "good, defective"),
        ({"task": "segmentation", "options": {"losses": {"dice": 0}}}, "no loss has a weight above 0"),
        ({"task": "segmentation", "options": {"decoder_width": 12}}, "multiple of 8"),
    ],
)
def test_wrong_settings_are_one_line(settings: dict, message: str, make_case: Make, tmp_path: Path) -> None:
    case = make_case(**settings)
    with pytest.raises(UserError, match=message) as error:
        finetune(case.recipe, case.prepared, case.pretrained, tmp_path)
    assert "\n" not in str(error.value)


def test_a_decoder_in_the_encoder_file_is_taken(make_case: Make, tmp_path: Path) -> None:
    from ssl_defect.finetune.start import build_detector
    from ssl_defect.nets.detector import Spec
    from ssl_defect.nets.weights import save_encoder

    case = make_case()
    options = {"decoder_width": 8, "score_share": 0.01}
    spec = Spec("segmentation", "test_resnet", 32, 1, ["good", "defective"], options)
    first, _ = build_detector(spec, case.pretrained / "encoder.safetensors")
    extra = {f"decoder.{name}": value + 1 for name, value in first.head.decoder.state_dict().items()}
    meta = {"method": "later", "origin": "random initialisation"}
    save_encoder(tmp_path / "whole.safetensors", first.encoder, meta, extra)
    taken, _ = build_detector(spec, tmp_path / "whole.safetensors")
    assert all(torch.equal(extra[f"decoder.{n}"], v) for n, v in taken.head.decoder.state_dict().items())
    save_encoder(tmp_path / "part.safetensors", first.encoder, meta, dict(list(extra.items())[:-1]))
    left, _ = build_detector(spec, tmp_path / "part.safetensors")
    assert not any(torch.equal(extra[f"decoder.{n}"], v) for n, v in left.head.decoder.state_dict().items())
