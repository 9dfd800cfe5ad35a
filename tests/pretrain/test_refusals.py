"""Bad input, method by method and through the stage: it runs, or it is refused in one clear line that helps."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from striped_parts import make_recipe

from ssl_defect.config import Recipe, validate
from ssl_defect.data.records import Sample, write_samples
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.weights import save_encoder
from ssl_defect.pretrain import METHODS
from ssl_defect.pretrain.base import Facts, Method
from ssl_defect.pretrain.stage import batch_size, pretrain

TRAINED = [name for name, (module, _) in METHODS.items() if module]
QUICK: dict[str, dict[str, Any]] = {"beit": {"tokenizer_epochs": 10}}
# which methods refuse which pictures on test_resnet (BEiT: test_vit), by size; whatever is not here runs
REFUSED = {
    16: {
        "densecl": r"last map of test_resnet, which is a single cell at 16 pixels; take 64 or more",
        "mae": r"two patches wide at least, got 16; take 32",
        "simmim": r"two patches wide at least, got 16; take 32",
        "beit": r"two patches wide at least, got 16; take 32",
        "cutpaste": r"cutpaste needs pictures of 32 pixels or more, got 16",
        "nsa": r"need pictures of 32 pixels or more, got 16; take 32",
        "defect_seg": r"need pictures of 32 pixels or more, got 16; take 32",
    },
    32: {"densecl": r"last map of test_resnet, which is a single cell at 32 pixels; take 64 or more"},
    33: {
        "mae": r"mae needs a multiple of the patch \(16 pixels\), .* got 33; take 48",
        "simmim": r"simmim needs a multiple of the patch \(16 pixels\), .* got 33; take 48",
        "beit": r"33 is no multiple of the 16-pixel patches of test_vit; take 32 or 48",
    },
    50: {
        "mae": r"mae needs a multiple of the patch \(16 pixels\), .* got 50; take 64",
        "simmim": r"simmim needs a multiple of the patch \(16 pixels\), .* got 50; take 64",
        "beit": r"50 is no multiple of the 16-pixel patches of test_vit; take 48 or 64",
    },
}
# which backbones a method does not fit: one without a pyramid and of one size, and a hierarchical one of one size
UNFIT = {
    "test_vit_relpos": {"mae", "simmim", "beit", "inpainting", "jigsaw", "context"},
    "test_coatnet": {"beit", "jigsaw", "context"},
    "test_convnext": {"beit"},
}


def write_set(folder: Path, train: int, size: int = 32, channels: int = 1) -> Path:
    """`train` good training pictures, a good and a defective one each for validation and test."""
    folder.mkdir(parents=True)
    splits = ["train"] * train + ["val", "val", "test", "test"]
    labels = [0] * train + [0, 1, 0, 1]
    samples = [
        Sample(f"{n}.png", "", label, "spot" if label else "good", n, split)
        for n, (split, label) in enumerate(zip(splits, labels, strict=True))
    ]
    pictures = np.random.default_rng(0).integers(0, 256, (len(splits), 8, 8, channels), dtype=np.uint8)
    write_samples(folder / "samples.csv", samples)
    np.save(
        folder / "images.npy", pictures.repeat(-(-size // 8), axis=1).repeat(-(-size // 8), axis=2)[:, :size, :size]
    )
    return folder


def backbone_for(method: str) -> str:
    return "test_vit" if method == "beit" else "test_resnet"


def refusal(prepared: Path, out: Path, method: str, backbone: str = "", **pretrain_settings: Any) -> str:
    """The one line that the stage refuses with."""
    with pytest.raises(UserError) as raised:
        pretrain(make_recipe(method, backbone or backbone_for(method), **pretrain_settings), prepared, out)
    line = str(raised.value)
    assert "\n" not in line
    return line


def check_it_runs_or_says_why(prepared: Path, out: Path, method: str, size: int, batch_size: int) -> None:
    settings = {"batch_size": batch_size, "epochs": 1, "options": QUICK.get(method, {})}
    if method in REFUSED[size]:
        assert re.search(REFUSED[size][method], refusal(prepared, out, method, **settings))
        return
    pretrain(make_recipe(method, backbone_for(method), **settings), prepared, out)
    assert (out / "encoder.safetensors").exists()


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Sets by picture size: a pair of colour pictures, and odd sizes, grey and coloured."""
    folder = tmp_path_factory.mktemp("sets")
    kinds = {16: (8, 1), 32: (2, 3), 33: (8, 3), 50: (8, 1)}
    return {size: write_set(folder / str(size), train, size, channels) for size, (train, channels) in kinds.items()}


@pytest.mark.parametrize("method", TRAINED)
def test_two_colour_pictures_in_a_batch_of_two(method: str, sets: dict[int, Path], tmp_path: Path) -> None:
    check_it_runs_or_says_why(sets[32], tmp_path, method, 32, 2)


@pytest.mark.slow
@pytest.mark.parametrize("size", [16, 33, 50])
@pytest.mark.parametrize("method", TRAINED)
def test_odd_sizes(method: str, size: int, sets: dict[int, Path], tmp_path: Path) -> None:
    check_it_runs_or_says_why(sets[size], tmp_path, method, size, 4)


@pytest.mark.newest_timm
@pytest.mark.parametrize("backbone", UNFIT)
@pytest.mark.parametrize("method", TRAINED)
def test_a_backbone_fits_or_is_refused_with_those_that_do(method: str, backbone: str) -> None:
    """A method that takes a backbone can make a step with it."""
    module: Any = import_module(METHODS[method][0])
    encoder, size = build_encoder(backbone, 64), 4
    facts = Facts(channels=1, images=600, image_size=64, batch_size=size, epochs=1, steps_per_epoch=10)
    if method in UNFIT[backbone]:
        with pytest.raises(UserError, match=rf"{method} does not fit {backbone}; it fits .*ViTs") as raised:
            module.METHOD.build(encoder, module.Options(), facts)
        assert "\n" not in str(raised.value)
        return
    trained: Method = module.METHOD.build(encoder, module.Options(**QUICK.get(method, {})), facts)
    trained.train()
    numbers = torch.arange(size)
    images = torch.randint(0, 256, (size, 1, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    batch = {"image": images, "partner": images, "group": numbers, "index": numbers, "label": numbers * 0}
    loss = trained(batch | {"generator": torch.Generator().manual_seed(0)}, 0.0)["loss"]
    loss.backward()
    assert bool(loss.isfinite())


@pytest.mark.parametrize("method", TRAINED)
def test_a_set_of_one_picture(method: str, tmp_path: Path) -> None:
    line = refusal(write_set(tmp_path / "prepare", 1), tmp_path / "out", method, batch_size=2)
    assert re.fullmatch(rf"pretrain: {method} needs at least 2 (good )?training images, the prepared set has 1", line)


@pytest.mark.parametrize("method", TRAINED)
def test_pictures_that_the_patch_does_not_divide(method: str, sets: dict[int, Path], tmp_path: Path) -> None:
    line = refusal(sets[33], tmp_path, method, "test_vit", batch_size=4)
    assert line == "data.image_size: 33 is no multiple of the 16-pixel patches of test_vit; take 32 or 48"


@pytest.mark.parametrize("method", TRAINED)
def test_a_batch_that_is_too_small_for_the_processes(method: str) -> None:
    kind: type[Method] = import_module(METHODS[method][0]).METHOD
    recipe = make_recipe(method, "test_resnet", batch_size=2)
    recipe = recipe.model_copy(update={"compute": recipe.compute.model_copy(update={"devices": 4})})
    reason = "needs at least" if 4 * kind.least_batch > 2 else "must be a multiple of compute.devices"
    with pytest.raises(UserError, match=rf"pretrain\.batch_size: .*{reason}"):
        batch_size(recipe, kind, 48)


def test_a_batch_of_one_is_refused_by_the_recipe() -> None:
    raw = make_recipe("rotation", "test_resnet").model_dump()
    raw["pretrain"]["batch_size"] = 1
    with pytest.raises(UserError, match=r"pretrain\.batch_size: .* greater than or equal to 2, got 1"):
        validate(Recipe, raw, "recipe")


def test_more_prototypes_than_pictures(sets: dict[int, Path], tmp_path: Path) -> None:
    line = refusal(sets[50], tmp_path, "swav", batch_size=4, options={"prototypes": 100})
    assert line == "pretrain.options.prototypes: 100 are more than the 8 training images; take 8 or less"


def test_colour_asked_of_a_grey_set(sets: dict[int, Path], tmp_path: Path) -> None:
    line = refusal(sets[50], tmp_path, "colorization", batch_size=4, options={"target": "colour"})
    assert line == (
        "pretrain.options.target: colour cannot be told, the set is grey; take auto or tones, which tells grey tones "
        "from outlines"
    )


def test_a_colour_set_that_is_all_but_grey_is_found_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared = write_set(tmp_path / "prepare", 8, channels=3)
    images = np.load(prepared / "images.npy")
    np.save(prepared / "images.npy", np.repeat(images[..., :1], 3, axis=3))
    pretrain(make_recipe("colorization", "test_resnet", batch_size=4, epochs=1), prepared, tmp_path / "out")
    assert "colorization: the pictures are all but grey" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("backbone", "size", "message"),
    [
        ("test_vit", 32, r"holds weights of test_vit, the recipe asks for test_resnet; set model\.backbone=test_vit"),
        ("test_vit", 50, r"holds weights of test_vit"),
        (None, 32, r"holds no weights of test_resnet \(for example, .* is missing\); give a state dict"),
    ],
)
def test_weights_of_another_backbone(
    backbone: str | None, size: int, message: str, sets: dict[int, Path], tmp_path: Path
) -> None:
    start = tmp_path / ("encoder.safetensors" if backbone else "other.pth")
    if backbone:
        save_encoder(start, build_encoder(backbone, 32), {"method": "mae", "origin": "random initialisation"})
    else:
        torch.save({"layer.weight": torch.zeros(2)}, start)
    assert re.search(message, refusal(sets[size], tmp_path / "out", "rotation", batch_size=2, start=str(start)))


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "rotation"},
        {"options": {"permutations": 9}},
        {"batch_size": 2},
        {"epochs": 2},
        {"seed": 7},
        {"start": "other"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_resume_with_other_settings(
    changed: dict[str, Any], sets: dict[int, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_defect.pretrain.stage.remove_checkpoints", lambda _: None)  # as if it was killed
    settings = {"method": "jigsaw", "batch_size": 4, "epochs": 1, "options": {"permutations": 8}}
    pretrain(make_recipe(backbone="test_resnet", **settings), sets[33], tmp_path)
    settings |= changed
    if "method" in changed:
        settings["options"] = {}
    if "start" in changed:
        settings["start"] = str(tmp_path / "encoder.safetensors")
    line = refusal(sets[33], tmp_path, **settings)
    assert re.search(r"checkpoint\.pt: made with other settings; delete .* to start anew, or use another folder", line)
