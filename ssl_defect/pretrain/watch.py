"""What a person sees of a pretraining: probes, snapshots, pictures and warnings between the epochs, a line for each."""

from __future__ import annotations

import time
from statistics import median
from types import TracebackType
from typing import Any

from lightning_fabric import Fabric

from ssl_defect.console import minutes, say
from ssl_defect.nets.weights import save_encoder
from ssl_defect.pretrain.health import concerns
from ssl_defect.pretrain.history import keep_before, paint, shown, write_history, write_pictures
from ssl_defect.pretrain.probe import Probe
from ssl_defect.pretrain.snapshots import Snapshots
from ssl_defect.pretrain.tensorboard import Board
from ssl_defect.pretrain.work import Work
from ssl_defect.train.loop import Interval

NOT_MEASURED = {"probe": None, "linear_probe": None, "rank": None, "feature_spread": None, "probe_seconds": None}


class Watch:
    """Follows one pretraining; every process measures, the first one writes and speaks."""

    def __init__(self, work: Work, probe: Probe, fabric: Fabric) -> None:
        settings = work.recipe.pretrain
        self.work, self.probe, self.fabric = work, probe, fabric
        self.snapshots = Snapshots(work.out, probe, settings.snapshots, settings.epochs)
        self._board: Board | None = None

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._board is not None:
            self._board.close()

    def open(self, state: dict[str, Any], epoch: int) -> None:
        """Before the first step of a fresh run (epoch 0), or of one that goes on after `epoch`."""
        settings, method = self.work.recipe.pretrain, self.work.method
        if settings.tensorboard and self.fabric.is_global_zero:
            self._board = Board(self.work.out, epoch)
        if epoch:
            say(f"{settings.method}: going on after epoch {epoch} of {settings.epochs}")
            return
        measured = self._measure(0)
        state |= {"before": measured, "after": measured, "rows": [], "warnings": {}}
        strips = paint(method, self.work.store, self.work.rows, self.fabric)
        if self.fabric.is_global_zero:
            keep_before(self.work.out, strips)
        if self._board is not None:
            self._board.pictures(strips, method.strip, 0)
        say(
            f"{settings.method}: {len(self.work.rows)} images, {settings.epochs} epochs, from {self.work.origin}; "
            f"probe {shown(measured['auroc'])}"
        )

    def epoch(self, interval: Interval, epoch: int, learning_rate: float) -> None:
        """After an epoch: its row, its line, and what else is due."""
        settings, state = self.work.recipe.pretrain, interval.state
        row = _row(interval, epoch, learning_rate)
        state["rows"].append(row)
        if self._due(epoch):
            started = time.monotonic()
            state["after"] = measured = self._measure(epoch)
            row |= {
                "probe": measured["auroc"],
                "linear_probe": measured["linear"],
                "rank": measured["rank"],
                "feature_spread": measured["spread"],
                "probe_seconds": time.monotonic() - started,
            }
        row["seconds_left"] = self._seconds_left(state["rows"], epoch)
        if not self.fabric.is_global_zero:
            return
        write_history(self.work.out, state["rows"])
        if settings.keep_every and epoch % settings.keep_every == 0:
            meta = {"method": settings.method, "origin": self.work.origin, "epoch": str(epoch)}
            save_encoder(self.work.out / f"encoder-epoch-{epoch:04d}.safetensors", self.work.method.handed_on, meta)
        if self._board is not None:
            self._board.numbers(row)
        say(self._line(row))
        self._warn(state)

    def finish(self) -> None:
        """After the last epoch: pictures and maps."""
        strips = paint(self.work.method, self.work.store, self.work.rows, self.fabric)
        if not self.fabric.is_global_zero:
            return
        write_pictures(self.work.out, strips)
        if self._board is not None:
            self._board.pictures(strips, self.work.method.strip, self.work.recipe.pretrain.epochs)
        self.snapshots.finish(self.work.recipe.pretrain_seed % 2**32)

    def _due(self, epoch: int) -> bool:
        settings = self.work.recipe.pretrain
        return epoch % settings.probe_every == 0 or epoch == settings.epochs or epoch in self.snapshots.epochs

    def _measure(self, epoch: int) -> dict[str, float | None]:
        seen = self.probe.look(self.work.method.handed_on)
        if epoch in self.snapshots.epochs and self.fabric.is_global_zero:
            self.snapshots.keep(epoch, seen)
        return self.probe.judge(seen)

    def _seconds_left(self, rows: list[dict[str, Any]], epoch: int) -> float:
        """Of training and of probes, at the pace so far."""
        epochs = self.work.recipe.pretrain.epochs
        probes = [row["probe_seconds"] for row in rows if row["probe_seconds"] is not None]
        each = median(probes) if probes else 0.0  # the first one also loads libraries
        due = sum(self._due(later) for later in range(epoch + 1, epochs + 1))
        return float(sum(row["seconds"] for row in rows) / epoch * (epochs - epoch) + each * due)

    def _line(self, row: dict[str, Any]) -> str:
        settings, method = self.work.recipe.pretrain, self.work.method
        parts = [f"{settings.method}: epoch {row['epoch']}/{settings.epochs}", f"loss {row['loss']:.4f}"]
        parts += [f"{name} {row[name]:.3g}" for name in (*method.logs, "spread") if name in row]
        if row["rank"] is not None:
            linear = "" if row["linear_probe"] is None else f" (linear {row['linear_probe']:.3f})"
            parts += [f"probe {shown(row['probe'])}{linear}", f"rank {row['rank']:.1f}"]
        parts += [f"rate {row['learning_rate']:.2g}", f"{row['images_per_second']:.0f} images/s"]
        return ", ".join([*parts, f"{minutes(row['seconds_left'])} left"])

    def _warn(self, state: dict[str, Any]) -> None:
        settings, known = self.work.recipe.pretrain, state["warnings"]
        for name, sentence in concerns(state, self.work.method, settings.epochs, settings.warmup).items():
            if name not in known:
                known[name] = sentence
                say(f"{settings.method}: warning: {sentence}")


def _row(interval: Interval, epoch: int, learning_rate: float) -> dict[str, Any]:
    return {
        "epoch": epoch,
        **interval.logs,
        "learning_rate": learning_rate,
        "images_per_second": interval.images_per_second,
        "seconds": interval.seconds,
        "seconds_left": None,
        **NOT_MEASURED,
    }
