"""BEiT: its losses by hand, its blocks against the paper's algorithm, and a tokenizer that stands still."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from ssl_defect.data.store import open_store
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.patches import block_mask
from ssl_defect.pretrain.base import Facts
from ssl_defect.pretrain.beit import BEiT, Options, code_error, gumbel_temperature, unused_codes
from ssl_defect.train.batches import Batches
from ssl_defect.train.optim import make_adamw


def build(name: str = "test_vit", size: int = 64, channels: int = 1, **options: Any) -> BEiT:
    torch.manual_seed(0)
    facts = Facts(channels, 100, size, 16, 10, 6)
    return BEiT.build(build_encoder(name, size), Options(**options), facts)  # type: ignore[return-value]


def test_the_loss_by_hand() -> None:
    logits = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0]], [[0.0, 0.0], [0.0, math.log(7)]]])
    tokens = torch.tensor([[0, 0], [1, 0]])
    expected = (math.log(2) - math.log(3 / 4) + math.log(2) - math.log(1 / 8)) / 4
    assert float(code_error(logits, tokens)) == pytest.approx(expected, rel=1e-6)
    assert float(code_error(torch.zeros(2, 3, 256), torch.zeros(2, 3, dtype=torch.long))) == pytest.approx(
        math.log(256)
    )


def test_unused_codes_cost_nothing_when_all_are_used_and_log_codes_when_one_is() -> None:
    sure = torch.nn.functional.one_hot(torch.arange(8).view(2, 2, 2), 8).permute(0, 3, 1, 2) * 100.0
    assert float(unused_codes(sure)) == pytest.approx(0, abs=1e-6)
    assert float(unused_codes(torch.zeros(2, 8, 2, 2))) == pytest.approx(0, abs=1e-6)
    alike = torch.zeros(2, 8, 2, 2)
    alike[:, 3] = 100
    assert float(unused_codes(alike)) == pytest.approx(math.log(8), rel=1e-6)


def test_draws_get_colder() -> None:
    assert [gumbel_temperature(p) for p in (0.0, 0.5, 1.0)] == [1.0, 0.5, 0.25]


@given(st.integers(2, 16), st.floats(0.05, 0.9), st.integers(0, 2**31))
def test_every_picture_has_exactly_its_hidden_patches(side: int, ratio: float, seed: int) -> None:
    hidden = min(max(round(side * side * ratio), 1), side * side - 1)
    one, two = (block_mask(5, side, hidden, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert one.shape == (5, side * side)
    assert one.sum(dim=1).tolist() == [hidden] * 5
    assert torch.equal(one, two)


def by_the_algorithm(side: int, hidden: int, draw: random.Random) -> np.ndarray:
    """Algorithm 1 for one picture, step by step, the last block cut short."""
    mask, least = np.zeros((side, side), bool), round(side * side * 16 / 196)
    while True:
        area = draw.uniform(least, max(hidden - int(mask.sum()), least))
        ratio = math.exp(draw.uniform(math.log(0.3), math.log(1 / 0.3)))
        height = min(max(round(math.sqrt(area * ratio)), 1), side)
        width = min(max(round(math.sqrt(area / ratio)), 1), side)
        top, left = draw.randint(0, side - height), draw.randint(0, side - width)
        for row in range(top, top + height):
            for column in range(left, left + width):
                mask[row, column] = True
                if mask.sum() == hidden:
                    return mask


def test_masks_are_those_of_the_paper_s_algorithm() -> None:
    """Each patch is hidden as often, and masks fall into as many pieces, as when laid block by block."""
    side, hidden, count = 14, 78, 1500
    ours = block_mask(count, side, hidden, torch.Generator().manual_seed(0)).view(count, side, side).numpy()
    draw = random.Random(0)
    theirs = np.stack([by_the_algorithm(side, hidden, draw) for _ in range(count)])
    np.testing.assert_allclose(ours.mean(axis=0), theirs.mean(axis=0), atol=0.07)  # five standard errors
    pieces = [np.mean([ndimage.label(mask)[1] for mask in masks]) for masks in (ours, theirs)]
    assert pieces[0] == pytest.approx(pieces[1], rel=0.05)
    scattered = np.random.default_rng(0).permuted(ours.reshape(count, -1), axis=1).reshape(ours.shape)
    assert pieces[0] < 0.2 * np.mean([ndimage.label(mask)[1] for mask in scattered])


@pytest.mark.parametrize("channels", [1, 3])
def test_strips_show_picture_holes_and_what_the_codes_say(channels: int) -> None:
    method = build(channels=channels).eval()
    pictures = torch.randint(0, 256, (3, channels, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        strips = method.pictures({"image": pictures, "generator": torch.Generator().manual_seed(0)})
    assert strips.shape == (3, 4, channels, 64, 64)
    assert int((strips[:, 1] == 0.5).all(dim=1).sum()) == 3 * 6 * 256  # 0.4 of 16 patches
    tokens = method.tokenizer.net.tokens(pictures / 255)
    torch.testing.assert_close(strips[:, 2], method.tokenizer.net.decode(tokens, pictures / 255))


def test_its_logs_by_hand() -> None:
    """A head that always names code 5."""
    method = build()
    torch.nn.init.zeros_(method.head.weight)
    torch.nn.init.zeros_(method.head.bias)
    with torch.no_grad():
        method.head.bias[5] = math.log(255)
    pictures = torch.rand(4, 1, 64, 64)
    hidden = block_mask(4, 4, 6, torch.Generator().manual_seed(0))
    tokens = torch.randint(4, 7, (4, 16))
    method.tokenizer.net.tokens = lambda _: tokens  # type: ignore[method-assign, assignment]
    logs = {k: float(v.detach()) for k, v in method.losses({"image": pictures, "hidden": hidden}, 0.0).items()}
    share = float((tokens[hidden] == 5).float().mean())
    counts = torch.bincount(tokens[hidden], minlength=7)[4:] / 24
    assert logs["right"] == pytest.approx(share)
    assert logs["chance"] == pytest.approx(float(counts.max()))
    assert logs["codes"] == pytest.approx(math.exp(-float((counts * counts.log()).sum())), rel=1e-5)
    assert logs["loss"] == pytest.approx(share * math.log(2) + (1 - share) * math.log(510), rel=1e-5)


def test_hidden_patches_are_never_seen_by_the_encoder() -> None:
    method = build().eval()
    pictures = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    views = {"image": pictures, "hidden": block_mask(2, 4, 6, torch.Generator().manual_seed(0))}
    covered = views["hidden"].view(2, 1, 4, 4).repeat_interleave(16, 2).repeat_interleave(16, 3)
    fixed = method.tokenizer.net.tokens(pictures)
    method.tokenizer.net.tokens = lambda _: fixed  # type: ignore[method-assign, assignment]
    loss = method.losses(views, 0.0)["loss"].detach()
    other = torch.where(covered, 1 - pictures, pictures)
    torch.testing.assert_close(method.losses(views | {"image": other}, 0.0)["loss"].detach(), loss)
    seen = torch.where(covered, pictures, 1 - pictures)
    assert float(method.losses(views | {"image": seen}, 0.0)["loss"].detach()) != float(loss)


def test_the_tokenizer_stands_still_while_beit_trains(prepared: Path) -> None:
    method, store = build(size=32), open_store(prepared)
    module, _ = method.preliminary()
    module.requires_grad_(True).requires_grad_(False)  # as the stage does it
    before = {name: value.clone() for name, value in module.state_dict().items()}
    head = method.head.weight.detach().clone()
    optimizer, batches = make_adamw([(method, 1e-2)], 0.05), Batches(store, store.rows("train"), 16, 0)
    given = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert not given & {id(p) for p in module.parameters()}
    for step in range(3):
        method.train()
        method(batches(step) | {"generator": torch.Generator().manual_seed(step)}, 0.0)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert not torch.equal(method.head.weight, head)


def test_a_tokenizer_that_uses_few_codes_is_refused_with_what_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    method = build()
    method.check_preliminary({"codes": 5.0, "error": 0.5})
    assert capsys.readouterr().err == ""
    with pytest.raises(UserError, match=r"the tokenizer collapsed: 1\.3 of 256 codes are in use.*diversity.*simmim"):
        method.check_preliminary({"codes": 1.3, "error": 0.5})


def test_a_tokenizer_that_paints_nothing_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    build().check_preliminary({"codes": 50.0, "error": 0.97})
    (line,) = capsys.readouterr().err.splitlines()
    assert "(error 0.97 of 1)" in line
    assert "tokenizer_epochs" in line


@pytest.mark.parametrize(("steps", "options", "epochs"), [(6, {}, 67), (20, {}, 30), (6, {"tokenizer_epochs": 3}, 3)])
def test_a_small_set_is_read_oftener(steps: int, options: dict[str, Any], epochs: int) -> None:
    facts = Facts(1, 100, 64, 16, 10, steps)
    assert BEiT(build_encoder("test_vit", 64), Options(**options), facts).preliminary()[1] == epochs


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("test_resnet", 64, r"beit does not fit test_resnet; it fits plain ViTs \(vit_\*, deit_\*\); simmim"),
        (
            "test_vit",
            16,
            r"beit needs a multiple of the patch \(16 pixels\), two patches wide at least, got 16; take 32",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(name: str, size: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(name, size)
