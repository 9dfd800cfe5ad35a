"""Outlining synthetic defects: its loss is fine-tuning's, and fine-tuning starts from all that was learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from striped_parts import SIZE

from ssl_defect.errors import UserError
from ssl_defect.finetune.start import build_detector
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.detector import Spec
from ssl_defect.nets.mask_losses import binary_focal_loss, dice_loss, dice_of, dice_sums
from ssl_defect.nets.weights import save_encoder
from ssl_defect.pretrain.base import Facts
from ssl_defect.pretrain.defect_seg import DefectSeg, Options
from ssl_defect.pretrain.outlining import overlap

FACTS = Facts(1, 64, SIZE, 16, 10, 4)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(backbone: str = "test_resnet", **options: Any) -> DefectSeg:
    torch.manual_seed(0)
    method = DefectSeg.build(build_encoder(backbone, SIZE), Options(**{"decoder_width": 8} | options), FACTS)
    assert isinstance(method, DefectSeg)
    return method


def a_batch(count: int = 8, channels: int = 1) -> dict[str, Any]:
    images = torch.randint(0, 256, (count, channels, SIZE, SIZE), generator=generator(), dtype=torch.uint8)
    return {"image": images, "group": torch.arange(count), "generator": generator(1)}


def spec(width: int, task: str = "segmentation") -> Spec:
    options = {"decoder_width": width, "score_share": 0.001, "dropout": 0.0}
    return Spec(task, "test_resnet", SIZE, 1, ["good", "defective"], options)


def test_the_loss_is_that_of_fine_tuning_plus_the_image_s() -> None:
    method = make(image=0.3, dice=0.7, focal=11.0, focus=1.5)
    views = method.views(a_batch(), 0.0)
    with torch.no_grad():
        logits, features = method.outline(views["image"])
        defective = views["target"].flatten(1).any(dim=1)
        judged = method.judge(features)[:, 0]
        image = torch.nn.functional.binary_cross_entropy_with_logits(judged, defective.float())
        expected = (
            0.7 * dice_loss(logits, views["target"])
            + 11 * binary_focal_loss(logits, views["target"], 1.5)
            + 0.3 * image
        )
        logs = method.losses(views, 0.0)
    torch.testing.assert_close(logs["loss"], expected)
    assert float(logs["image_accuracy"]) == float(((judged > 0) == defective).float().mean())


def test_dice_of_a_batch_shared_out_is_the_dice_of_the_whole() -> None:
    logits = torch.randn(6, 1, 8, 8, generator=generator(), dtype=torch.float64)
    masks = (torch.rand(6, 1, 8, 8, generator=generator(1)) > 0.8).double()
    parts = [dice_sums(logits[i::2], masks[i::2]).sum(dim=0, keepdim=True) for i in (0, 1)]
    shared = dice_of(torch.cat(parts).sum(dim=0, keepdim=True))
    torch.testing.assert_close(shared, dice_loss(logits, masks), rtol=1e-12, atol=0)


def test_some_pictures_stay_good_and_noise_covers_defects_too() -> None:
    method = make(good=0.25, noise=0.05, crop=(1.0, 1.0), flips=False, turns=False, difference=(0.5, 0.5))
    grey = a_batch(40) | {"image": torch.full((40, 1, SIZE, SIZE), 128, dtype=torch.uint8)}
    views = method.views(grey, 0.0)
    good = ~views["target"].flatten(1).any(dim=1)
    assert int(good.sum()) == 10
    assert set(views["target"].unique().tolist()) == {0.0, 1.0}
    again = method.views(grey | {"generator": generator(1)}, 0.0)
    assert torch.equal(again["image"], views["image"])


@pytest.mark.parametrize("channels", [1, 3])
def test_its_pictures_show_picture_defects_outline_and_prediction(channels: int) -> None:
    method = make().eval()
    with torch.inference_mode():
        strips = method.pictures(a_batch(4, channels))
    assert strips.shape == (4, 4, channels, SIZE, SIZE)
    changed = (strips[:, 1] != strips[:, 0]).any(dim=1)
    outlined = strips[:, 2, 0] == 1
    assert float(changed[outlined].float().mean()) > 0.8
    assert not bool(changed[~outlined.flatten(1).any(dim=1)].any())
    assert bool(((strips[:, 3] > 0) & (strips[:, 3] < 1)).all())


def test_overlap_by_hand() -> None:
    logits, target = torch.tensor([[2.0, 1.0, -1.0, -3.0]]), torch.tensor([[1.0, 0.0, 0.7, 0.2]])
    assert float(overlap(logits, target)) == pytest.approx(1 / 3)
    assert float(overlap(-torch.ones(1, 4), torch.zeros(1, 4))) == 1


def written(method: DefectSeg, folder: Path) -> Path:
    file = folder / "encoder.safetensors"
    save_encoder(file, method.encoder, {"method": "defect_seg", "origin": "random initialisation"}, method.handover())
    return file


def test_fine_tuning_starts_from_encoder_decoder_and_last_convolution(tmp_path: Path, capfd: Any) -> None:
    method = make()
    detector, meta = build_detector(spec(8), written(method, tmp_path))
    assert (meta["handed_over"], meta["left_behind"]) == ("decoder, last", "")
    said = capfd.readouterr().err
    assert "the decoder starts from encoder.safetensors as well" in said
    assert "the last starts from encoder.safetensors as well" in said
    method.eval()
    detector.eval()
    images = torch.rand(2, 1, SIZE, SIZE)
    torch.testing.assert_close(detector(images)["logits"], method.outline(images)[0])


def test_a_decoder_of_another_width_is_left_out_and_the_remedy_said_in_one_line(tmp_path: Path, capfd: Any) -> None:
    _, meta = build_detector(spec(16), written(make(), tmp_path))
    assert meta["handed_over"] == ""
    assert "set finetune.options.decoder_width=8" in meta["left_behind"]
    said = [line for line in capfd.readouterr().err.splitlines() if "decoder" in line]
    assert len(said) == 1
    assert "its decoder does not fit and starts anew" in said[0]
    assert "set finetune.options.decoder_width=8" in said[0]


def test_classification_takes_the_encoder_and_says_nothing_of_the_decoder(tmp_path: Path, capfd: Any) -> None:
    build_detector(spec(8, "classification"), written(make(), tmp_path))
    assert "decoder" not in capfd.readouterr().err


def test_what_cannot_be_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="need pictures of 32 pixels or more, got 16; take 32"):
        DefectSeg.build(build_encoder("test_resnet", SIZE), Options(), Facts(1, 64, 16, 16, 10, 4))
    for wrong in ({"difference": (0.2, 0.7)}, {"area": (0.3, 0.1)}, {"kinds": ()}, {"kinds": ("hole",)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Options(**wrong)  # type: ignore[arg-type]
