"""Write large uint8 `.npy` files row by row.

Rows go through plain writes and not through a memory map: on a full disk a write fails with an error that can be
reported, where a map would kill the process.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.uint8]

HEADER = 128  # bytes of the header, whose shape is known only at the end


class ArrayWriter:
    """A uint8 `.npy` file that grows by rows of one shape; `finish` makes it whole, `discard` removes it."""

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.shape, self.rows = path, shape, 0
        # Unbuffered: a buffer that cannot be written would raise once more, later, when it is let go.
        self._file = path.open("wb", buffering=0)
        self._file.seek(HEADER)

    def append(self, row: Rows) -> None:
        """Write one row, uint8 of `shape`."""
        assert row.shape == self.shape, (row.shape, self.shape)
        assert row.dtype == np.uint8, row.dtype
        self._write(np.ascontiguousarray(row).tobytes())
        self.rows += 1

    def finish(self) -> None:
        """Write the header, sync and close."""
        self._file.seek(0)
        self._write(_header((self.rows, *self.shape)))
        os.fsync(self._file.fileno())
        self.close()

    def discard(self) -> None:
        """Close and remove the file."""
        self.close()
        self.path.unlink()

    def close(self) -> None:
        """Close as it is: without `finish`, the file cannot be read as an array."""
        self._file.close()

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]


def _header(shape: tuple[int, ...]) -> bytes:
    """Header of `.npy` version 1.0, padded to `HEADER` bytes."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape!r}, }}"
    return b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little") + text.ljust(HEADER - 11).encode() + b"\n"


class PictureWriter:
    """`images.npy` of (S, S, 1) rows, until the first colour picture turns all of them into (S, S, 3)."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size, self.channels = path, size, 1
        self._writer = ArrayWriter(path, (size, size, 1))

    def append(self, picture: Rows, grey: bool) -> None:
        """Write a picture (S, S, 1 or 3); `grey` says that its channels are alike."""
        if not grey and self.channels == 1:
            self._widen()
        shape = (self.size, self.size, self.channels)
        self._writer.append(np.broadcast_to(picture[..., : self.channels], shape))

    def finish(self) -> None:
        """Make the file whole."""
        self._writer.finish()

    def close(self) -> None:
        """Close as it is."""
        self._writer.close()

    def _widen(self) -> None:
        narrow = self.path.with_suffix(".grey.npy")
        self._writer.finish()
        self.path.replace(narrow)
        self.channels = 3
        self._writer = ArrayWriter(self.path, (self.size, self.size, 3))
        # An empty file cannot be mapped, and has nothing to copy.
        for row in np.load(narrow, mmap_mode="r") if narrow.stat().st_size > HEADER else ():
            self._writer.append(np.broadcast_to(row, (self.size, self.size, 3)))
        narrow.unlink()
