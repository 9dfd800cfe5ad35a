"""What colorization shows the encoder and what it asks for: colours, or the tones of grey pictures."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ssl_defect.pretrain.lab import gamut_bins, lab_to_rgb, rgb_to_lab

FLATTEST = 0.02  # deviation that an even picture counts as having, so that its noise is not asked for
TEMPERATURE = 0.38  # of the annealed mean, Zhang et al. 2016, section 2.3


class Palette(nn.Module):
    """A set of colours or tones, and how they are taken from a picture and put back into it.

    Attributes:
        cell: side of the cells that have one colour each, in pixels.
        centres: (Q, 1 or 2) the value of each colour.
    """

    centres: Tensor

    def __init__(self, centres: Tensor, cell: int) -> None:
        super().__init__()
        self.cell = cell
        self.register_buffer("centres", centres, persistent=False)

    def source(self, images: Tensor) -> Tensor:
        """What the encoder gets to see of pictures (B, C, S, S) in [0, 1]: (B, 1, S, S) in [0, 1]."""
        raise NotImplementedError

    def target(self, images: Tensor) -> Tensor:
        """The number of the colour of each cell: (B, h, w) in [0, Q), h = S / cell rounded up."""
        raise NotImplementedError

    def paint(self, logits: Tensor, images: Tensor) -> Tensor:
        """The pictures (B, C, S, S) with what `logits` (B, Q, h, w) say in place of what was asked for."""
        raise NotImplementedError

    def blended(self, logits: Tensor, size: int) -> Tensor:
        """The annealed mean of the centres (Zhang et al. 2016, eq. 5), enlarged: (B, 1 or 2, size, size)."""
        share = (logits.float() / TEMPERATURE).softmax(dim=1)
        with torch.autocast(share.device.type, enabled=False):
            values = torch.einsum("bqhw,qd->bdhw", share, self.centres)
        whole = functional.interpolate(values, scale_factor=float(self.cell), mode="bilinear")
        return whole[:, :, :size, :size]


class Colours(Palette):
    """Lightness is shown, the colour is asked for: a square of the a-b plane (Zhang et al. 2016, section 2)."""

    table: Tensor

    def __init__(self, width: int, cell: int) -> None:
        """Lay out the squares of that width."""
        centres = gamut_bins(width)
        super().__init__(centres.clone(), cell)
        self.width, self.reach = width, int(centres.abs().max()) // width
        reach = self.reach
        line = torch.arange(-reach, reach + 1) * float(width)
        nearest = torch.cdist(torch.cartesian_prod(line, line), centres).argmin(dim=1)
        self.register_buffer("table", nearest, persistent=False)

    def source(self, images: Tensor) -> Tensor:
        """The lightness, white at 1."""
        return rgb_to_lab(images)[:, :1] / 100

    def target(self, images: Tensor) -> Tensor:
        """The square that the mean colour of each cell lies in."""
        plane = functional.avg_pool2d(rgb_to_lab(images)[:, 1:], self.cell, ceil_mode=True)
        row, column = ((plane / self.width).round().long().clamp(-self.reach, self.reach) + self.reach).unbind(1)
        return self.table[row * (2 * self.reach + 1) + column]

    def paint(self, logits: Tensor, images: Tensor) -> Tensor:
        """The pictures' own lightness in the colours that were told."""
        plane = self.blended(logits, images.shape[-1])
        return lab_to_rgb(torch.cat([rgb_to_lab(images)[:, :1], plane], dim=1))


class Tones(Palette):
    """Outlines are shown, the grey tone is asked for, as in colouring-in: which side of a line is dark, and how dark.

    A tone is counted from the picture's own mean in its own deviations, so that exposure plays no part; the levels
    are as wide as makes each equally frequent in a normal distribution.
    """

    limits: Tensor

    def __init__(self, levels: int, cell: int) -> None:
        """Lay out the levels."""
        quantiles = torch.arange(1, 2 * levels, dtype=torch.float64) / (2 * levels)
        values = torch.special.ndtri(quantiles).float()
        super().__init__(values[::2].unsqueeze(1), cell)
        self.register_buffer("limits", values[1::2].contiguous(), persistent=False)

    def source(self, images: Tensor) -> Tensor:
        """`outlines` of the grey picture."""
        return outlines(images.mean(dim=1, keepdim=True))

    def target(self, images: Tensor) -> Tensor:
        """The level of the mean tone of each cell."""
        grey = images.mean(dim=1, keepdim=True)
        mean, deviation = _exposure(grey)
        tones = (functional.avg_pool2d(grey, self.cell, ceil_mode=True) - mean) / deviation
        return torch.bucketize(tones.squeeze(1), self.limits)

    def paint(self, logits: Tensor, images: Tensor) -> Tensor:
        """The tones that were told, at the pictures' own exposure."""
        mean, deviation = _exposure(images.mean(dim=1, keepdim=True))
        tones = self.blended(logits, images.shape[-1])
        return (tones * deviation + mean).clamp(0, 1).expand_as(images)


def outlines(grey: Tensor) -> Tensor:
    """Where grey pictures (B, 1, S, S) change, without saying which side is darker: (B, 1, S, S) in [0, 1].

    The length of Sobel's gradient, 1 from four times the picture's mean on: that, too, does not vary with exposure.
    """
    steep = grey.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    padded = functional.pad(grey, (1, 1, 1, 1), mode="replicate")
    with torch.autocast(grey.device.type, enabled=False):
        slope = functional.conv2d(padded, torch.stack([steep, steep.T]).unsqueeze(1))
    length = slope.square().sum(dim=1, keepdim=True).sqrt()
    return (length / (4 * length.mean(dim=(1, 2, 3), keepdim=True) + FLATTEST)).clamp(max=1)


def _exposure(grey: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (B, 1, 1, 1) of grey pictures."""
    variance = grey.var(dim=(1, 2, 3), keepdim=True, correction=0)
    return grey.mean(dim=(1, 2, 3), keepdim=True), (variance + FLATTEST**2).sqrt()
