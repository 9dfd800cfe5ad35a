"""The discrete tokenizer: relaxed draws, the grid of codes, and that it learns to paint what it read."""

from __future__ import annotations

import math

import pytest
import torch

from ssl_defect.nets.tokenizer import DiscreteVAE, code_shares, gumbel_softmax, perplexity, standardise


def make(patch: int = 16, channels: int = 1, codes: int = 32) -> DiscreteVAE:
    torch.manual_seed(0)
    return DiscreteVAE(channels, patch, codes, 32)


def test_cold_draws_are_codes_in_the_proportions_of_the_softmax() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log().view(1, 3, 1, 1).expand(1, 3, 200, 200)
    drawn = gumbel_softmax(logits, 1e-3, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn.sum(dim=1), torch.ones(1, 200, 200))
    assert float((drawn.amax(dim=1) > 0.99).float().mean()) > 0.99
    torch.testing.assert_close(drawn.mean(dim=(0, 2, 3)), torch.tensor([0.5, 0.3, 0.2]), atol=0.01, rtol=0)


def test_warm_draws_are_mixtures_and_the_generator_decides_them() -> None:
    logits = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(1))
    one, two, other = (gumbel_softmax(logits, 5.0, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert float(one.max()) < 0.9
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_codes_in_use_by_hand() -> None:
    shares = code_shares(torch.tensor([[0, 0, 1], [0, 3, 0]]), 5)
    torch.testing.assert_close(shares, torch.tensor([4.0, 1.0, 0.0, 1.0, 0.0]) / 6)
    entropy = -(4 / 6 * math.log(4 / 6) + 2 / 6 * math.log(1 / 6))
    assert float(perplexity(shares)) == pytest.approx(math.exp(entropy), rel=1e-6)
    assert float(perplexity(code_shares(torch.zeros(9, dtype=torch.long), 5))) == 1
    assert float(perplexity(code_shares(torch.arange(5), 5))) == pytest.approx(5)


def test_standardised_pictures_have_no_exposure() -> None:
    picture = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    normal, mean, deviation = standardise(picture)
    torch.testing.assert_close(normal * deviation + mean, picture)
    brighter, *_ = standardise(0.3 + 0.6 * picture)
    torch.testing.assert_close(brighter, normal, atol=2e-3, rtol=0)
    assert float(standardise(torch.full((1, 1, 8, 8), 0.7))[0].abs().max()) < 1e-4


@pytest.mark.parametrize("patch", [7, 8, 12, 14, 16, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_one_code_for_each_patch(patch: int, channels: int) -> None:
    tokenizer, pictures = make(patch, channels), torch.rand(2, channels, 4 * patch, 4 * patch)
    tokens = tokenizer.tokens(pictures)
    assert tokens.shape == (2, 16)
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < 32
    decoded = tokenizer.decode(tokens, pictures)
    assert decoded.shape == pictures.shape
    assert 0 <= float(decoded.min()) <= float(decoded.max()) <= 1


def test_codes_are_in_reading_order_whatever_the_precision() -> None:
    tokenizer = make()
    tokenizer.reader = torch.nn.Sequential(torch.nn.AvgPool2d(16), torch.nn.Conv2d(1, 32, 1))  # type: ignore[assignment]
    torch.nn.init.zeros_(tokenizer.reader[1].weight)  # type: ignore[arg-type]
    torch.nn.init.zeros_(tokenizer.reader[1].bias)  # type: ignore[arg-type]
    with torch.no_grad():
        tokenizer.reader[1].weight[7], tokenizer.reader[1].weight[9] = 1, -1  # type: ignore[index]
    picture = torch.zeros(1, 1, 32, 32)
    picture[:, :, :16, 16:] = 1
    assert tokenizer.tokens(picture).tolist() == [[9, 7, 9, 9]]
    tokenizer = make()
    pictures = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = tokenizer.tokens(pictures)
    assert torch.equal(half, tokenizer.tokens(pictures))


def test_all_of_it_stands_still_once_its_parameters_do() -> None:
    tokenizer = make().requires_grad_(False)
    assert list(tokenizer.buffers()) == []
    tokenizer.train()
    pictures = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    assert torch.equal(tokenizer.tokens(pictures), tokenizer.tokens(pictures))


def test_it_learns_to_paint_four_kinds_of_patches() -> None:
    """Patches of four kinds in random places: two codes or more, and far less error than the pictures' means cost."""
    y, x = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    kinds = torch.stack([(x % 4 < 2), (y % 4 < 2), (x + y) % 4 < 2, (x < 4)]).float()
    generator, tokenizer = torch.Generator().manual_seed(0), make(8, codes=16)
    optimizer = torch.optim.Adam(tokenizer.parameters(), 3e-3)

    def draw() -> torch.Tensor:
        chosen = kinds[torch.randint(4, (16, 4, 4), generator=generator)]
        return chosen.permute(0, 1, 3, 2, 4).reshape(16, 1, 32, 32)

    for step in range(120):
        wanted = standardise(draw())[0]
        relaxed = gumbel_softmax(tokenizer.logits(wanted), 0.25 ** (step / 120), generator)
        (tokenizer.paint(relaxed) - wanted).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    fresh = draw()
    tokens = tokenizer.tokens(fresh)
    error = (tokenizer.decode(tokens, fresh) - fresh).square().mean()
    assert float(error) < 0.4 * float((fresh - 0.5).square().mean())
    assert float(perplexity(code_shares(tokens, 16))) > 2
