"""Detectors: scores, and one file that suffices."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ssl_defect.errors import UserError
from ssl_defect.finetune import TASKS
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.decoders import DECODERS
from ssl_defect.nets.detector import Detector, Spec, load_detector, save_detector
from ssl_defect.nets.heads import HEADS, from_scale, image_score, to_scale

OPTIONS = {"dropout": 0.1, "decoder_width": 8, "score_share": 0.001}
CLASSES = ["good", "scratch", "spot"]
B, S = 3, 64
VARIANTS: dict[str, tuple[str, dict, dict[str, tuple[int, ...]]]] = {
    "classification": ("classification", {}, {"probabilities": (B, 3)}),
    "labels": ("classification", {"target": "labels"}, {"labels": (B, 2)}),
    "se": ("classification", {"attention": "se"}, {"probabilities": (B, 3)}),
    "compared": ("classification", {"pair": "group"}, {"probabilities": (B, 3)}),
    "golden": ("classification", {"pair": "golden"}, {"probabilities": (B, 3)}),
    "grade": ("regression", {"target": "grade"}, {"value": (B,)}),
    "area": ("regression", {"target": "area", "scale": "log"}, {"value": (B,)}),
    "segmentation": ("segmentation", {}, {"map": (B, S, S)}),
    "classes": ("segmentation", {"target": "defect"}, {"map": (B, S, S), "class_map": (B, S, S)}),
    "fcn": ("segmentation", {"decoder": "fcn"}, {"map": (B, S, S)}),
    "fpn": ("segmentation", {"decoder": "fpn", "attention": "cbam"}, {"map": (B, S, S)}),
    "deeplabv3plus": ("segmentation", {"decoder": "deeplabv3plus", "pair": "group"}, {"map": (B, S, S)}),
    "deep": ("segmentation", {"deep_supervision": 0.5}, {"map": (B, S, S)}),
}
"""name -> (task, options, what it predicts besides the score and in which shapes)."""


def make(task: str, backbone: str = "test_resnet", channels: int = 1, **options: Any) -> Detector:
    torch.manual_seed(0)
    task, given, _ = VARIANTS[task]
    spec = Spec(task, backbone, S, channels, CLASSES, OPTIONS | given | options)
    return Detector(build_encoder(backbone, S), spec).eval()


def pictures(channels: int = 1) -> torch.Tensor:
    return torch.rand(3, channels, 64, 64, generator=torch.Generator().manual_seed(1))


def test_every_task_has_a_head() -> None:
    assert {*TASKS, "anomaly"} == set(HEADS)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("name", VARIANTS)
def test_predictions_have_their_shapes_and_ranges(name: str, backbone: str, channels: int) -> None:
    detector, x = make(name, backbone, channels), pictures(channels)
    found, shapes = detector.predict(x), VARIANTS[name][2]
    assert {key: tuple(value.shape) for key, value in found.items()} == {"score": (B,), **shapes}
    for key, value in found.items():
        assert value.dtype == (torch.uint8 if key == "class_map" else torch.float32)
        assert value.min() >= 0
        assert value.max() <= (2 if key == "class_map" else 1)
    assert detector.features(x).shape == (B, detector.encoder.width)


def test_classification_scores_everything_but_good() -> None:
    head = make("classification").head
    found = head.predict({"logits": torch.tensor([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0]])})
    torch.testing.assert_close(found["score"], torch.tensor([2 / 3, 0.0]))


def test_labels_score_the_likeliest_and_their_logits_are_against_good() -> None:
    head = make("labels").head
    logits = torch.tensor([[0.0, -2.0, 1.0], [0.0, -3.0, -5.0]])
    found = head.predict({"logits": logits})
    torch.testing.assert_close(found["score"], torch.tensor([1.0, -3.0]).sigmoid())
    torch.testing.assert_close(found["labels"], logits[:, 1:].sigmoid())
    assert bool((make("labels")(pictures())["logits"][:, 0] == 0).all())


def test_a_grade_is_clipped_and_an_area_comes_back_from_its_scale() -> None:
    outputs = {"value": torch.tensor([-0.5, 0.25, 1.5])}
    grade = make("grade").head.predict(outputs)
    torch.testing.assert_close(grade["value"], torch.tensor([0.0, 0.25, 1.0]))
    torch.testing.assert_close(grade["score"], grade["value"])
    area = make("area").head.predict(outputs)
    torch.testing.assert_close(area["score"], torch.tensor([0.0, 0.25, 1.0]))
    torch.testing.assert_close(area["value"], torch.tensor([0.0, (1001**0.25 - 1) / 1000, 1.0]))


def test_the_scale_of_areas_rises_from_0_to_1_and_back() -> None:
    areas = torch.tensor([0.0, 1e-5, 1e-3, 0.01, 0.1, 1.0])
    scaled = to_scale(areas)
    assert scaled.tolist() == sorted(scaled.tolist())
    assert scaled[0] == 0
    assert scaled[2] == pytest.approx(math.log(2) / math.log(1001))
    assert scaled[-1] == pytest.approx(1)
    torch.testing.assert_close(from_scale(scaled), areas)


@pytest.mark.parametrize("name", ["segmentation", "classes"])
def test_segmentation_begins_believing_that_pixels_are_good(name: str) -> None:
    assert make(name).predict(pictures())["map"].mean() == pytest.approx(0.1, abs=0.08)


def test_the_map_of_classes_is_everything_but_good_and_the_likeliest() -> None:
    logits = torch.randn(B, 3, S, S, generator=torch.Generator().manual_seed(0))
    found = make("classes").head.predict({"logits": logits})
    torch.testing.assert_close(found["map"], 1 - logits.softmax(dim=1)[:, 0])
    assert torch.equal(found["class_map"].long(), 1 + logits[:, 1:].argmax(dim=1))
    torch.testing.assert_close(found["score"], image_score(found["map"], 0.001))


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_deep_supervision_has_logits_of_coarser_levels_in_training_alone(decoder: str, backbone: str) -> None:
    detector = make("classes", backbone, decoder=decoder, deep_supervision=1.0)
    assert set(detector(pictures())) == {"logits"}
    outputs = detector.train()(pictures())
    levels = [value for name, value in outputs.items() if name.startswith("level")]
    assert levels
    assert all(level.shape[:2] == (B, 3) and level.shape[-1] < S for level in levels)
    assert len(detector.head.auxiliary) == len(levels)
    plain = make("classes", backbone, decoder=decoder)
    assert set(plain.train()(pictures())) == {"logits"}
    assert not len(plain.head.auxiliary)


@pytest.mark.parametrize("name", ["compared", "deeplabv3plus"])
def test_a_pair_is_judged_by_its_reference_and_a_picture_alone_by_itself(name: str) -> None:
    detector, x = make(name), pictures()
    alone, doubled, other = (detector.predict(p)["score"] for p in (x, torch.cat([x, x], 1), torch.cat([x, 1 - x], 1)))
    torch.testing.assert_close(alone, doubled)
    assert not torch.allclose(alone, other)


def test_attention_adds_weights_only_where_it_is_asked_for() -> None:
    plain, weighed = (set(make("segmentation", attention=kind).head.state_dict()) for kind in ("none", "se"))
    assert plain < weighed
    assert all(name.startswith("trunk.blocks.") for name in weighed - plain)
    assert {name.split(".")[0] for name in plain} == {"decoder", "last"}


def test_image_score_by_hand() -> None:
    maps = torch.tensor([[[0.1, 0.9], [0.5, 0.3]]])
    assert image_score(maps, 0.5).item() == pytest.approx(0.7)
    assert image_score(maps, 1e-6).item() == pytest.approx(0.9)
    assert image_score(maps, 1.0).item() == pytest.approx(0.45)


@given(
    size=st.sampled_from([16, 64, 128]), share=st.floats(1e-6, 0.01), noise=st.floats(0, 0.05), seed=st.integers(0, 99)
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_found_pixel_always_raises_the_score(size: int, share: float, noise: float, seed: int) -> None:
    good = noise * torch.rand(1, size, size, generator=torch.Generator().manual_seed(seed))
    defective = good.clone()
    defective[0, size // 2, size // 3] = 1.0
    assert image_score(defective, share) > image_score(good, share)


@pytest.mark.parametrize("task", VARIANTS)
def test_a_saved_detector_predicts_the_same(task: str, tmp_path: Path) -> None:
    detector, x = make(task), pictures()
    detector.to(memory_format=torch.channels_last)
    save_detector(tmp_path / "model.safetensors", detector, {"origin": "random"})
    loaded = load_detector(tmp_path / "model.safetensors")
    assert loaded.spec == detector.spec
    assert not loaded.training
    for name, value in detector.predict(x).items():
        torch.testing.assert_close(loaded.predict(x)[name], value, atol=1e-4, rtol=1e-4)
    for name, value in detector.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def test_equal_detectors_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_detector(tmp_path / name, make("classification"), {"method": "none", "origin": "random", "x": "y"})
    digests = {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("a", "b")}
    assert len(digests) == 1


def test_a_missing_file_names_the_stage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing; run `ssl-defect finetune`"):
        load_detector(tmp_path / "model.safetensors")


@pytest.mark.parametrize("damage", ["truncated", "noise", "empty", "another safetensors"])
def test_a_damaged_file_is_one_line(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_detector(path, make("classification"))
    whole = path.read_bytes()
    if damage == "another safetensors":
        save_file({"x": torch.zeros(2)}, path)
    else:
        path.write_bytes({"truncated": whole[: len(whole) // 2], "noise": b"\xff" * 999, "empty": b""}[damage])
    with pytest.raises(UserError, match=r"damaged, or not a detector") as error:
        load_detector(path)
    assert "\n" not in str(error.value)


def test_weights_of_another_backbone_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_detector(path, make("classification"))
    other = make("classification", "test_vit")
    save_detector(tmp_path / "other.safetensors", other)
    about = {"detector": _metadata(path)}
    save_file(load_file(tmp_path / "other.safetensors"), path, metadata=about)
    with pytest.raises(UserError, match="do not fit"):
        load_detector(path)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_detector(path, make("classification"))
    later = _metadata(path).replace('"format_version": 1', '"format_version": 9')
    save_file(load_file(path), path, metadata={"detector": later})
    with pytest.raises(UserError, match="format 9, this version reads 1"):
        load_detector(path)


def _metadata(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return file.metadata()["detector"]
