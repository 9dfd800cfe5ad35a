"""Detectors: scores, and one file that suffices."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ssl_defect.errors import UserError
from ssl_defect.finetune import TASKS
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.detector import Detector, Spec, load_detector, save_detector
from ssl_defect.nets.heads import HEADS, image_score

OPTIONS = {"dropout": 0.1, "decoder_width": 8, "score_share": 0.001}


def make(task: str, backbone: str = "test_resnet", channels: int = 1) -> Detector:
    torch.manual_seed(0)
    spec = Spec(task, backbone, 64, channels, ["good", "defective"], OPTIONS)
    return Detector(build_encoder(backbone, 64), spec).eval()


def pictures(channels: int = 1) -> torch.Tensor:
    return torch.rand(3, channels, 64, 64, generator=torch.Generator().manual_seed(1))


def test_every_task_has_a_head() -> None:
    assert set(TASKS) == set(HEADS)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("task", HEADS)
def test_predictions_have_their_shapes_and_ranges(task: str, backbone: str, channels: int) -> None:
    detector, x = make(task, backbone, channels), pictures(channels)
    found = detector.predict(x)
    assert found["score"].shape == (3,)
    shape = (3, 64, 64) if task == "segmentation" else (3, 2)
    assert found["map" if task == "segmentation" else "probabilities"].shape == shape
    for value in found.values():
        assert value.dtype == torch.float32
        assert value.min() >= 0
        assert value.max() <= 1
    assert detector.features(x).shape == (3, detector.encoder.width)


def test_classification_scores_everything_but_good() -> None:
    head = make("classification").head
    found = head.predict({"logits": torch.tensor([[0.0, 0.0, 0.0], [50.0, 0.0, 0.0]])})
    torch.testing.assert_close(found["score"], torch.tensor([2 / 3, 0.0]))


def test_segmentation_begins_believing_that_pixels_are_good() -> None:
    assert make("segmentation").predict(pictures())["map"].mean() == pytest.approx(0.1, abs=0.05)


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


@pytest.mark.parametrize("task", HEADS)
def test_a_saved_detector_predicts_the_same(task: str, tmp_path: Path) -> None:
    detector, x = make(task), pictures()
    detector.to(memory_format=torch.channels_last)
    save_detector(tmp_path / "model.safetensors", detector, {"origin": "random"})
    loaded = load_detector(tmp_path / "model.safetensors")
    assert loaded.spec == detector.spec
    assert not loaded.training
    for name, value in detector.predict(x).items():
        torch.testing.assert_close(loaded.predict(x)[name], value, atol=1e-5, rtol=1e-5)
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
