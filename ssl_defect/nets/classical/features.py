"""Numbers that describe the texture of a picture: local binary patterns, grey-level co-occurrence, Gabor filters."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_defect.nets.classical.base import Floats, Pixels

RINGS = ((8, 1), (16, 2), (24, 3))  # points and radius in pixels, as Ojala et al. combine them
LEVELS = 32  # grey levels of the co-occurrence
DISTANCES = (1, 2, 4)  # pixels
ANGLES = tuple(np.arange(4) * np.pi / 4)
PROPERTIES = ("contrast", "dissimilarity", "homogeneity", "energy", "correlation")
FREQUENCIES = (0.1, 0.2, 0.4)  # cycles per pixel, an octave apart
ORIENTATIONS = 6


def lbp(grey: Pixels) -> Floats:
    """Histograms of uniform local binary patterns of (S, S), (54,), each ring summing to 1.

    Ojala, Pietikäinen and Mäenpää, Multiresolution gray-scale and rotation invariant texture classification with
    local binary patterns, TPAMI 2002 (equations 9 and 10).
    """
    from skimage.feature import local_binary_pattern

    parts = []
    for points, radius in RINGS:
        codes = local_binary_pattern(grey, points, radius, method="uniform").astype(np.int64)
        codes = codes[radius:-radius, radius:-radius]  # beyond the border all is taken for black
        parts.append(np.bincount(codes.ravel(), minlength=points + 2) / codes.size)
    return np.concatenate(parts).astype(np.float32)


def glcm(grey: Pixels) -> Floats:
    """Mean and range over four directions of five properties of the co-occurrence of (S, S) at three distances: (30,).

    Haralick, Shanmugam and Dinstein, Textural features for image classification, 1973.
    """
    from skimage.feature import graycomatrix, graycoprops

    counts = graycomatrix(grey // (256 // LEVELS), DISTANCES, ANGLES, LEVELS, symmetric=True, normed=True)
    found = [graycoprops(counts, name) for name in PROPERTIES]
    return np.concatenate([np.r_[each.mean(axis=1), np.ptp(each, axis=1)] for each in found]).astype(np.float32)


def gabor(grey: Pixels) -> Floats:
    """Mean and variance of the magnitude of each Gabor filter over (S, S), grey levels in [0, 1]: (36,).

    Manjunath and Ma, Texture features for browsing and retrieval of image data, TPAMI 1996.
    """
    magnitudes = gabor_magnitudes(np.asarray(grey / np.float32(255)))
    return np.concatenate([magnitudes.mean(axis=(1, 2)), magnitudes.var(axis=(1, 2))])


def gabor_magnitudes(grey: Floats) -> Floats:
    """Magnitude of each filter at each pixel of (S, S): (filters, S, S); borders are mirrored."""
    from scipy.fft import fft2, ifft2

    side = len(grey)
    bank, reach = _bank(side)
    wide = np.pad(grey, reach, mode="symmetric")
    found = ifft2(fft2(wide, s=bank.shape[1:]) * bank)[:, 2 * reach : 2 * reach + side, 2 * reach : 2 * reach + side]
    return np.asarray(np.abs(found), np.float32)


@cache
def _bank(side: int) -> tuple[NDArray[Any], int]:
    """Spectra of the filters, for a picture of `side` with a border of the filters' reach, and that reach."""
    from scipy.fft import fft2, next_fast_len
    from skimage.filters import gabor_kernel

    kernels = [
        gabor_kernel(frequency, theta=np.pi * turn / ORIENTATIONS)
        for frequency in FREQUENCIES
        for turn in range(ORIENTATIONS)
    ]
    reach = max(max(kernel.shape) // 2 for kernel in kernels)
    size = next_fast_len(side + 4 * reach)
    bank = np.zeros((len(kernels), size, size), np.complex64)
    for number, kernel in enumerate(kernels):
        y, x = (reach - length // 2 for length in kernel.shape)
        bank[number, y : y + kernel.shape[0], x : x + kernel.shape[1]] = kernel
    return fft2(bank), reach


KINDS = {"lbp": (lbp,), "glcm": (glcm,), "gabor": (gabor,), "texture": (lbp, glcm, gabor)}


def describe(grey: Pixels, method: str) -> Floats:
    """The features of one picture (S, S) by `lbp`, `glcm`, `gabor`, or `texture` for all of them."""
    return np.concatenate([kind(grey) for kind in KINDS[method]])
