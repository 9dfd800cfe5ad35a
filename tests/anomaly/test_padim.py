"""PaDiM where there are few good images."""

from __future__ import annotations

import pytest
import torch
from fitting import encoder, options_of, parts

from ssl_defect.errors import UserError
from ssl_defect.nets.anomaly.padim import PaDiM


def fit(count: int, dimensions: int) -> PaDiM:
    body = encoder()
    head = PaDiM(body, options_of("padim", dimensions=dimensions)).eval()
    with torch.no_grad():
        head.fit(body, lambda: iter(parts(count).split(7)), 0)
    return head


def test_one_good_image_is_too_few() -> None:
    with pytest.raises(UserError, match="needs at least 2 good images, there is 1"):
        fit(1, 4)


def test_fewer_images_than_dimensions_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    head = fit(8, 8)
    assert capsys.readouterr().err.count("8 good images for 8 dimensions; the covariance hangs on its ridge") == 1
    assert torch.isfinite(head.whitening).all()
    fit(9, 8)
    assert capsys.readouterr().err == ""
