"""Classical detectors through the stages: fitted, saved, evaluated, reported and used for new pictures."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from scipy.ndimage import gaussian_filter

from ssl_defect.config import Recipe, dump_yaml
from ssl_defect.data.records import Sample, write_samples
from ssl_defect.data.store import Store, open_store
from ssl_defect.errors import UserError
from ssl_defect.evaluate.stage import evaluate
from ssl_defect.finetune.stage import finetune
from ssl_defect.nets.classical.detector import KINDS, ClassicalDetector
from ssl_defect.nets.detector import load_detector
from ssl_defect.predict import predict

SIDE = 32
MAPS = ("otsu", "adaptive", "golden", "template")
Prepare = Callable[..., Path]


def draw(kind: str, rng: np.random.Generator, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """One blotched part, a little shifted and noisy; the spoilt ones have a checkered bright square."""
    blobs = gaussian_filter(np.random.default_rng(99).normal(size=(SIDE + 4, SIDE + 4)), 3)
    y, x = rng.integers(0, 5, 2)
    image = 110 + 25 * (blobs / blobs.std())[y : y + SIDE, x : x + SIDE] + rng.normal(0, 3, (SIDE, SIDE))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    if kind != "good":
        y, x = rng.integers(6, SIDE - 12, 2)
        mask[y : y + 6, x : x + 6] = 1
        image += mask * (60 + 40 * (np.indices((SIDE, SIDE)).sum(0) % 2))
    return np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], channels, 2), mask


@pytest.fixture(scope="module")
def prepare(tmp_path_factory: pytest.TempPathFactory) -> Prepare:
    """Call it with `kinds`, `masks`, `channels`."""

    def make(kinds: tuple[str, ...] = ("good", "spot"), masks: bool = True, channels: int = 1) -> Path:
        folder, rng = tmp_path_factory.mktemp("prepare"), np.random.default_rng(0)
        samples, images, drawn = [], [], []
        for number in range(96):
            split = ("train", "val", "train", "test")[number // 2 % 4]
            kind = ("good", "spot")[number % 2] if split != "train" else kinds[number % len(kinds)]
            image, mask = draw(kind, rng, channels)
            samples.append(Sample(f"{kind}/{number}.png", "", int(kind != "good"), kind, number, split))
            images.append(image)
            drawn.append(mask)
        write_samples(folder / "samples.csv", samples)
        np.save(folder / "images.npy", np.stack(images))
        if masks:
            np.save(folder / "masks.npy", np.stack(drawn))
        (folder / "audit.json").write_text(json.dumps({"protocol": "supervised", "split": "group"}))
        return folder

    return make


def make_recipe(method: str, labels: int | None = None, seed: int = 0, **options: object) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "small",
            "seed": seed,
            "data": {"source": "synthetic", "root": "nowhere", "image_size": SIDE},
            "finetune": {"task": "classical", "labels_per_class": labels, "options": {"method": method, **options}},
            "evaluate": {"bootstrap": 100, "embeddings": False, "gradcam": 4},
            "compute": {"threads": 1, "device": "cpu"},
        }
    )


def run(recipe: Recipe, prepared: Path, out: Path) -> dict:
    """The stages finetune and evaluate; there is no pretraining and no encoder."""
    finetune(recipe, prepared, out / "none", out / "finetune")
    (out / "evaluate").mkdir()
    evaluate(recipe, prepared, out / "none", out / "finetune", out / "evaluate")
    (out / "recipe.yaml").write_text(dump_yaml(recipe), encoding="utf-8")
    return json.loads((out / "evaluate" / "metrics.json").read_text())


def pictures(store: Store, split: str = "test") -> torch.Tensor:
    return torch.from_numpy(store.images[store.rows(split)]).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("method", KINDS)
def test_every_method_from_labels_to_new_pictures(method: str, prepare: Prepare, tmp_path: Path) -> None:
    prepared = prepare()
    found = run(make_recipe(method), prepared, tmp_path)
    assert found["image"]["auroc"]["value"] > (0.9 if method in MAPS else 0.75)
    assert found["protocol"]["task"] == "classical"
    assert found["precision"] == "float32"
    assert (found["pixel"] is not None) == (method in MAPS)
    assert (tmp_path / "evaluate" / "maps.npy").exists() == (method in MAPS)
    if method in MAPS:
        assert found["pixel"]["auroc"]["value"] > 0.85
    assert not (tmp_path / "evaluate" / "gradcam.npz").exists()
    about = json.loads((tmp_path / "finetune" / "finetune.json").read_text())
    assert about["labels"] == {"good": 24, "spot": 24}
    assert about["method"] == method
    with (tmp_path / "finetune" / "history.csv").open(encoding="utf-8") as file:
        assert [float(row["validation"]) for row in csv.DictReader(file)] == [about["best_validation"]]

    store, new = open_store(prepared), tmp_path / "new"
    new.mkdir()
    for row in store.rows("test")[:6]:
        Image.fromarray(store.images[row, ..., 0]).save(new / f"{row}.png")
    rows = predict(tmp_path, [new], tmp_path / "out", "cpu")
    scores = {row["image"].rsplit("/")[-1]: row["score"] for row in rows}
    with (tmp_path / "evaluate" / "predictions.csv").open(encoding="utf-8") as file:
        known = {f"{row['row']}.png": float(row["score"]) for row in csv.DictReader(file)}
    assert scores == {name: pytest.approx(known[name], abs=1e-6) for name in scores}
    assert all((row["area"] == "") == (method not in MAPS) for row in rows)
    assert all((tmp_path / "out" / row["overlay"]).is_file() for row in rows)


@pytest.mark.parametrize("method", KINDS)
def test_the_file_holds_the_detector_and_the_same_recipe_gives_the_same_file(
    method: str, prepare: Prepare, tmp_path: Path
) -> None:
    prepared = prepare()
    for name in ("a", "b"):
        finetune(make_recipe(method), prepared, tmp_path, tmp_path / name)
    files = [tmp_path / name / "model.safetensors" for name in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()
    detector = load_detector(files[0])
    assert isinstance(detector, ClassicalDetector)
    x = pictures(open_store(prepared))
    first = detector.predict(x)
    again = load_detector(files[0]).predict(x)
    assert set(first) == ({"score", "map"} if method in MAPS else {"score"})
    for name, value in first.items():
        assert torch.equal(value, again[name])
        assert value.dtype == torch.float32
        assert 0 <= value.min() <= value.max() <= 1
    parts = torch.cat([detector.predict(part)["score"] for part in x.split(5)])
    assert torch.equal(parts, first["score"])  # a picture's score does not hang on its neighbours in the batch
    features = detector.features(x)
    assert features.shape[0] == len(x)
    assert torch.isfinite(features).all()
    assert all(name.startswith("fitted.") for name in load_file(files[0]))


def test_colour_pictures(prepare: Prepare, tmp_path: Path) -> None:
    prepared = prepare(channels=3)
    for method in ("otsu", "golden", "template", "texture"):
        found = run(make_recipe(method), prepared, tmp_path / method)
        assert found["image"]["auroc"]["value"] > 0.75, method


@pytest.mark.parametrize("method", [*MAPS, "texture"])
def test_masks_are_not_needed(method: str, prepare: Prepare, tmp_path: Path) -> None:
    found = run(make_recipe(method), prepare(masks=False), tmp_path)
    assert found["image"]["auroc"]["value"] > 0.75
    assert found["pixel"] is None


@pytest.mark.parametrize("method", KINDS)
def test_three_labels_of_each_class(method: str, prepare: Prepare, tmp_path: Path) -> None:
    found = run(make_recipe(method, labels=3), prepare(), tmp_path)
    assert found["image"]["auroc"]["value"] > 0.5
    about = json.loads((tmp_path / "finetune" / "finetune.json").read_text())
    assert about["labels"] == {"good": 3, "spot": 3}


@pytest.mark.parametrize("method", MAPS)
def test_good_pictures_alone(method: str, prepare: Prepare, tmp_path: Path) -> None:
    found = run(make_recipe(method), prepare(kinds=("good",)), tmp_path)
    assert found["image"]["auroc"]["value"] > 0.8


@pytest.mark.parametrize(
    ("method", "kinds", "expected"),
    [
        ("texture", ("good",), "are all good and method 'texture' needs good and defective"),
        ("lbp", ("spot",), "are all defective and method 'lbp'"),
        ("golden", ("spot",), "'golden' needs labelled good training images and there are none"),
        ("template", ("spot",), "'template' needs labelled good training images"),
    ],
)
def test_what_cannot_be_learnt_is_one_line(
    method: str, kinds: tuple[str, ...], expected: str, prepare: Prepare, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=expected):
        finetune(make_recipe(method), prepare(kinds=kinds), tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"method": "goldn"}, "did you mean 'golden'"),
        ({"method": "otsu", "polarty": "dark"}, "did you mean 'polarity'"),
        (
            {"method": "adaptive", "block": 8},
            "block: 8 does not fit; accepted: odd numbers from 3 to the image size 32",
        ),
        ({"method": "otsu", "block": 33}, "block: 33 does not fit"),
        ({"method": "adaptive", "block": 0}, "adaptive needs a neighbourhood"),
        ({"method": "golden", "max_shift": 0.7}, "max_shift"),
    ],
)
def test_wrong_options_are_one_line(options: dict, expected: str, prepare: Prepare, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=expected):
        finetune(make_recipe(**options), prepare(), tmp_path, tmp_path / "out")


@pytest.mark.parametrize("method", ["otsu", "adaptive", "texture"])
def test_validation_and_test_images_decide_nothing(method: str, prepare: Prepare, tmp_path: Path) -> None:
    prepared = prepare()
    finetune(make_recipe(method), prepared, tmp_path, tmp_path / "a")
    store = open_store(prepared)
    images = np.array(store.images)
    others = np.flatnonzero([sample.split != "train" for sample in store.samples])
    images[others] = np.random.default_rng(1).integers(0, 255, images[others].shape)
    np.save(prepared / "images.npy", images)
    finetune(make_recipe(method), prepared, tmp_path, tmp_path / "b")
    files = [tmp_path / name / "model.safetensors" for name in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_damaged_file_is_one_line(prepare: Prepare, tmp_path: Path) -> None:
    finetune(make_recipe("golden"), prepare(), tmp_path, tmp_path / "out")
    path = tmp_path / "out" / "model.safetensors"
    text = path.read_bytes().replace(b"fitted.spread", b"fitted.sprxad")
    path.write_bytes(text)
    with pytest.raises(UserError, match="do not fit what it says of itself"):
        load_detector(path)


def test_an_encoder_nobody_needs_is_said_so(
    prepare: Prepare, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = make_recipe("glcm")
    quiet = plain.model_copy(update={"pretrain": plain.pretrain.model_copy(update={"method": "none"})})
    for recipe, count in ((quiet, 0), (plain, 1)):
        finetune(recipe, prepare(), tmp_path, tmp_path / "out")
        assert capsys.readouterr().err.count("pretrain.method=none spares") == count


def test_the_schema_and_the_fingerprint_know_the_options() -> None:
    from ssl_defect.fingerprints import options
    from ssl_defect.schema import recipe_schema

    tasks = recipe_schema()["$defs"]["FinetuneSettings"]["allOf"]
    (own,) = [each for each in tasks if each["if"]["properties"]["task"]["const"] == "classical"]
    assert "classifier" in own["then"]["properties"]["options"]["properties"]
    assert options(make_recipe("lbp"))["finetune"].model_dump()["method"] == "lbp"
