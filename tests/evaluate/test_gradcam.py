"""Grad-CAM: by hand on a linear head, in range, for CNNs and ViTs, and which images are worth one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from ssl_defect.evaluate.gradcam import defective_logit, gradcam, target_layer, worth_a_look
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.detector import Detector, Spec

OPTIONS = {
    "classification": {"dropout": 0.0},
    "segmentation": {"decoder_width": 8, "score_share": 0.01},
}


def _detector(task, backbone, size=32):
    torch.manual_seed(0)
    spec = Spec(task, backbone, size, 1, ["good", "defective"], OPTIONS[task])
    return Detector(build_encoder(backbone, size), spec).eval()


@pytest.mark.parametrize(
    ("task", "backbone"),
    [
        ("classification", "resnet18"),
        ("segmentation", "resnet18"),
        ("classification", "vit_tiny_patch16_224"),
        ("segmentation", "vit_tiny_patch16_224"),
        pytest.param("classification", "swin_tiny_patch4_window7_224", marks=pytest.mark.slow),
        pytest.param("segmentation", "efficientnet_lite0", marks=pytest.mark.slow),
    ],
)
def test_every_family_gives_maps_in_range(task, backbone):
    size = 64
    detector = _detector(task, backbone, size)
    for parameter in detector.encoder.parameters():
        parameter.requires_grad_(False)  # a frozen encoder must not hide the gradients
    cam = gradcam(detector, torch.rand(3, 1, size, size))
    assert cam.shape == (3, size, size)
    assert cam.dtype == np.float32
    assert cam.min() >= 0
    assert cam.max() <= 1
    assert cam.std() > 0
    assert all(parameter.grad is None for parameter in detector.parameters())


def test_equals_the_formula_on_a_cnn():
    detector = _detector("classification", "resnet18", 64)
    x = torch.rand(4, 1, 64, 64)
    features = detector.encoder.last_map(x).detach().requires_grad_()
    logits = detector.head.linear(features.mean((2, 3)))
    weights = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), features)[0].mean((2, 3), keepdim=True)
    expected = (weights * features).sum(1).clamp(min=0).detach()
    low, high = expected.amin((1, 2), keepdim=True), expected.amax((1, 2), keepdim=True)
    scaled = ((expected - low) / (high - low)).nan_to_num()  # nothing speaks for a defect: an empty map
    found = torch.from_numpy(gradcam(detector, x))
    assert found.max() > 0.5
    large = functional.interpolate(scaled[:, None], size=(64, 64), mode="bilinear")[:, 0]
    assert torch.allclose(found, large, atol=0.05)


def test_a_map_does_not_depend_on_the_batch():
    detector = _detector("classification", "resnet18")
    x = torch.rand(3, 1, 32, 32)
    assert np.allclose(gradcam(detector, x)[1], gradcam(detector, x[1:2])[0], atol=1e-4)


def test_a_vit_is_read_before_its_last_attention():
    detector = _detector("classification", "vit_tiny_patch16_224")
    assert target_layer(detector) is detector.encoder.body.blocks[-1].norm1


def test_what_is_explained():
    assert defective_logit(torch.tensor([0.5, 2.0])) == pytest.approx(1.5)
    classes = torch.tensor([1.0, 0.0, 0.0])
    probability = classes.softmax(0)[1:].sum()
    assert defective_logit(classes) == pytest.approx(float(torch.logit(probability)), abs=1e-6)
    assert defective_logit(torch.tensor([[[-1.0, 2.0], [4.0, -3.0]]])) == pytest.approx(3.0)
    assert defective_logit(torch.tensor([[[-1.0, -2.0], [-4.0, -3.0]]])) == pytest.approx(-1.0)


def test_worst_misses_worst_alarms_and_best_hits_in_turn():
    labels = np.array([1, 1, 1, 0, 0, 0, 1])
    scores = np.array([0.1, 0.3, 0.9, 0.8, 0.2, 0.6, 0.7])
    assert worth_a_look(labels, scores, 0.5, 10).tolist() == [0, 3, 2, 1, 5, 6]
    assert worth_a_look(labels, scores, 0.5, 2).tolist() == [0, 3]
    assert worth_a_look(labels, scores, 0.5, 0).tolist() == []
