"""A discrete tokenizer: a picture as a grid of codes, one for each patch of a plain ViT, and back.

A small discrete VAE (Ramesh et al. 2021, Zero-shot text-to-image generation, section 2.1): convolutions lead to the
logits of a code for each cell, the Gumbel-softmax relaxation (Jang, Gu and Poole 2017) lets gradients through the
choice, and convolutions paint the picture from the codes. It has no statistics of a batch: once its parameters stand
still, all of it does.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

LOGIT_SCALE = 5.0  # 137 codes in use after 240 steps on Magnetic Tile, where 1 gives 43, and an error lower by 6%


class DiscreteVAE(nn.Module):
    """Pictures to codes and back.

    It sees each picture less its mean, over its deviation: codes are to tell structure, not exposure, and an error
    of 1 is then what the picture's mean alone would cost, on any set.

    Args:
        channels: of the pictures.
        patch: side in pixels of the cell that a code stands for.
        codes: how many there are.
        width: channels of the grid of cells.
    """

    def __init__(self, channels: int, patch: int, codes: int, width: int) -> None:
        super().__init__()
        self.codes = codes
        halvings, stem = _halvings(patch)
        widths = [max(width >> (halvings - level), 16) for level in range(halvings)] + [width]
        levels = list(pairwise(widths))
        self.reader = nn.Sequential(
            nn.Conv2d(channels, widths[0], stem, stride=stem),
            *(_layer(nn.Conv2d(a, b, 4, 2, 1, bias=False), b) for a, b in levels),
            _Residual(width),
            nn.Conv2d(width, codes, 1),
        )
        self.painter = nn.Sequential(
            nn.Conv2d(codes, width, 1, bias=False),
            _Residual(width),
            *(_layer(nn.ConvTranspose2d(b, a, 4, 2, 1, bias=False), a) for a, b in reversed(levels)),
            nn.Conv2d(widths[0], stem**2 * channels, 1),
            nn.PixelShuffle(stem),
        )

    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, codes, h, w) of the codes of standardised pictures, float32.

        They are a multiple of what the last layer gives, so that codes part within the first hundred steps at the
        learning rate of a ViT.
        """
        read: Tensor = self.reader(images)
        return LOGIT_SCALE * read.float()

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """The likeliest code of each patch (B, N) of pictures in [0, 1], in reading order; float32 always."""
        with torch.autocast(images.device.type, enabled=False):
            return self.logits(standardise(images.float())[0]).argmax(dim=1).flatten(1)

    def paint(self, chosen: Tensor) -> Tensor:
        """Standardised pictures from the share of each code in each cell, (B, codes, h, w)."""
        painted: Tensor = self.painter(chosen)
        return painted

    @torch.no_grad()
    def decode(self, tokens: Tensor, images: Tensor) -> Tensor:
        """Pictures in [0, 1] from codes (B, N), with the mean and deviation of `images`."""
        side = round(tokens.shape[1] ** 0.5)
        chosen = functional.one_hot(tokens.view(-1, side, side), self.codes).permute(0, 3, 1, 2).float()
        _, mean, deviation = standardise(images.float())
        return (self.paint(chosen).float() * deviation + mean).clamp(0, 1)


def standardise(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures (B, C, S, S) less their mean, over their deviation, with the two, (B, 1, 1, 1).

    The deviation of a flat picture counts as a hundredth of the range, so that its noise is not blown up.
    """
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    deviation = (images.var(dim=(1, 2, 3), keepdim=True) + 1e-4).sqrt()
    return (images - mean) / deviation, mean, deviation


def gumbel_softmax(logits: Tensor, temperature: float, generator: Generator) -> Tensor:
    """A relaxed draw from the codes (B, codes, h, w), their shares adding up to 1 (Jang et al. 2017, eq. 2).

    Args:
        temperature: above 0; towards 0 the draw becomes one code.
    """
    uniform = torch.rand(logits.shape, generator=generator, device=logits.device).clamp_(1e-10, 1 - 1e-7)
    return ((logits - (-uniform.log()).log()) / temperature).softmax(dim=1)


def code_shares(tokens: Tensor, codes: int) -> Tensor:
    """How frequent each code is among `tokens` of any shape: (codes,), adding up to 1."""
    share = torch.full((tokens.numel(),), 1 / tokens.numel(), device=tokens.device)
    return torch.zeros(codes, device=tokens.device).index_add_(0, tokens.flatten(), share)


def perplexity(shares: Tensor) -> Tensor:
    """How many codes are in use, by their shares (codes,): 1 where all is one code, `codes` where all are alike."""
    entropy: Tensor = torch.special.entr(shares)
    return entropy.sum().exp()


def _halvings(patch: int) -> tuple[int, int]:
    """How often a layer halves the map, twice at most, and the stride before: 16 -> (2, 4), 14 -> (1, 7), 7 -> (0, 7).

    Fine maps cost the most and the codes are coarse, so the first layer takes the larger step.
    """
    count = min((patch & -patch).bit_length() - 1, 2)
    return count, patch >> count


def _layer(conv: nn.Module, width: int) -> nn.Sequential:
    return nn.Sequential(conv, nn.GroupNorm(8, width), nn.ReLU(inplace=True))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            _layer(nn.Conv2d(width, width, 3, padding=1, bias=False), width), nn.Conv2d(width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, h, w) -> the same."""
        added: Tensor = x + self.mix(x)
        return functional.relu(added)
