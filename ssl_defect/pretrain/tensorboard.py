"""The epochs as TensorBoard shows them: an option, in the folder `tensorboard` beside the encoder."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ssl_defect.errors import UserError
from ssl_defect.pretrain.history import Strips

FOLDER = "tensorboard"
ROOMS = {
    "probe": ("probe", "linear_probe", "rank", "feature_spread"),
    "run": ("gradient_norm", "learning_rate", "images_per_second", "seconds", "seconds_left", "probe_seconds"),
}
ROOM = {name: room for room, names in ROOMS.items() for name in names}


def require_tensorboard() -> None:
    """Refuse to begin without the package.

    Raises:
        UserError: it is not installed.
    """
    if find_spec("tensorboard") is None:
        raise UserError(
            "pretrain.tensorboard: the package tensorboard is not installed; "
            "`pip install 'ssl-defect[tensorboard]'`, or set pretrain.tensorboard=false"
        )


class Board:
    """Writes events; those of epochs that a killed run had written after its last checkpoint no longer count."""

    def __init__(self, out: Path, epoch: int) -> None:
        """Go on after `epoch`, 0 in a fresh run."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(out / FOLDER, purge_step=epoch + 1 if epoch else 0)

    def numbers(self, row: dict[str, Any]) -> None:
        """The scalars of one epoch; what was not measured is left out."""
        for name, value in row.items():
            if name != "epoch" and value is not None:
                self._writer.add_scalar(f"{ROOM.get(name, 'loss')}/{name}", value, row["epoch"])
        self._writer.flush()

    def pictures(self, strips: Strips, names: tuple[str, ...], epoch: int) -> None:
        """Strips uint8 (n, strip, S, S, 3), one below the other."""
        count, length, side = strips.shape[:3]
        sheet = strips.transpose(0, 2, 1, 3, 4).reshape(count * side, length * side, 3)
        self._writer.add_image(", ".join(names), sheet, epoch, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
