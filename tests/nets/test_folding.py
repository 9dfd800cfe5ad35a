"""Batch norms folded into convolutions: the same features, and the encoder itself stays as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_defect.nets.backbones import Encoder, build_encoder
from ssl_defect.nets.folding import folded

SIZE = 64


def seasoned(name: str) -> Encoder:
    """An encoder whose batch norms have seen something."""
    torch.manual_seed(0)
    encoder = build_encoder(name, SIZE).eval()
    for norm in norms(encoder):
        norm.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
        norm.running_var.uniform_(0.3, 2)  # type: ignore[union-attr]
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.2)
    return encoder


def norms(encoder: nn.Module) -> list[_BatchNorm]:
    return [module for module in encoder.modules() if isinstance(module, _BatchNorm)]


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("resnet18", 0),
        ("tf_efficientnet_lite0", 0),
        ("mobilenetv3_small_050", 0),
        ("test_resnet", 0),
        pytest.param("densenet121", 62, marks=pytest.mark.newest_timm),
    ],
)
def test_features_stay_and_norms_go(name: str, left: int) -> None:
    encoder = seasoned(name)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    light, x = folded(encoder), torch.rand(2, 1, SIZE, SIZE)
    assert len(norms(light)) == left < len(norms(encoder))
    with torch.no_grad():
        pairs = [*zip(encoder.pyramid(x), light.pyramid(x), strict=True), (encoder(x), light(x))]
        pairs += [*zip(encoder.maps(x, [1, 2]), light.maps(x, [1, 2]), strict=True)]
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * float(one.abs().max()))
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_an_encoder_without_batch_norm_is_left_alone(name: str) -> None:
    encoder = build_encoder(name, SIZE).eval()
    assert folded(encoder) is encoder


def test_an_output_that_others_read_too_is_not_folded() -> None:
    class Shortcut(nn.Module):
        """Reads what the convolution gives beside the batch norm's."""

        def __init__(self, convolution: nn.Module, norm: nn.Module) -> None:
            super().__init__()
            self.convolution, self.norm = convolution, norm

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.convolution(x)
            return self.norm(found) + found

    encoder = seasoned("resnet18")
    encoder.body.conv1 = Shortcut(encoder.body.conv1, encoder.body.bn1)
    encoder.body.bn1 = nn.Identity()
    assert folded(encoder) is encoder
