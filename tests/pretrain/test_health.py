"""Runs that learn nothing, made on purpose: each is named, with what to try."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from striped_parts import make_recipe
from torch import Tensor

from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder
from ssl_defect.pretrain import mae, simclr
from ssl_defect.pretrain.health import concerns
from ssl_defect.pretrain.stage import pretrain


class Still:
    """Stands in for a method."""

    advice = "try this"

    def __init__(self, chance: float | None = None) -> None:
        self.chance = chance


def after(losses: list[float], chance: float | None = None, epochs: int = 8, **last: Any) -> set[str]:
    rows: list[dict[str, Any]] = [{"epoch": n, "loss": loss, "rank": None} for n, loss in enumerate(losses, 1)]
    rows[-1] |= last
    found = concerns({"before": {"rank": 20.0}, "rows": rows}, Still(chance), epochs, 0.1)  # type: ignore[arg-type]
    assert all(sentence.endswith("try this") and "\n" not in sentence for sentence in found.values())
    return set(found)


@pytest.mark.parametrize(("loss", "found"), [(1.2, {"chance"}), (0.99, {"chance"}), (0.97, set())])
def test_a_loss_at_chance_is_a_concern_once_it_had_time(loss: float, found: set[str]) -> None:
    assert after([loss] * 2, chance=1.0) == found
    assert after([loss], chance=1.0) == set()


def test_a_loss_that_never_fell_is_one_where_nothing_else_would_tell() -> None:
    assert after([0.5] * 8) == {"loss"}
    assert after([0.5] * 7 + [0.49]) == set()
    assert after([0.5] * 7) == set()  # the run is not over
    assert after([0.5] * 8, spread=0.5) == set()
    assert after([0.5] * 8, chance=1.0) == set()
    assert after([0.5], epochs=1) == set()


@pytest.mark.parametrize(("rank", "found"), [(1.1, {"rank"}), (2.5, set()), (None, set())])
def test_few_directions_are_a_concern(rank: float | None, found: set[str]) -> None:
    assert after([0.5, 0.4], rank=rank) == found


def test_features_along_one_line_are_warned_of_once(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dimensional collapse of the encoder: embeddings still differ, so that their spread tells nothing."""
    forward, begun = simclr.SimCLR.forward, []

    def starting(self: simclr.SimCLR, batch: dict[str, Any], progress: float) -> dict[str, Tensor]:
        begun.append(progress)
        return forward(self, batch, progress)

    whole = Encoder.forward

    def narrowed(self: Encoder, x: Tensor) -> Tensor:
        features = whole(self, x)
        line = torch.linspace(-1, 1, features.shape[1])
        along = features @ line
        return (along - 0.5)[:, None] * line if begun else features

    monkeypatch.setattr(simclr.SimCLR, "forward", starting)
    monkeypatch.setattr(Encoder, "forward", narrowed)
    pretrain(make_recipe("simclr", "test_resnet", epochs=3), prepared, tmp_path)
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning: after" in line]
    assert len(lines) == 1
    assert "after epoch 1 the features crowd along one line (effective rank 1.0, below 2)" in lines[0]
    assert simclr.SimCLR.advice in lines[0]
    assert json.loads((tmp_path / "pretrain.json").read_text(encoding="utf-8"))["warnings"][0] in lines[0]


def test_a_masked_method_that_paints_the_mean_is_warned_of(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = mae.MAE.losses

    def blind(self: mae.MAE, views: dict[str, Tensor], progress: float) -> dict[str, Tensor]:
        found = losses(self, views, progress)
        return found | {"loss": found["loss"] * 0 + 1.0}  # what the mean of each patch would give

    monkeypatch.setattr(mae.MAE, "losses", blind)
    pretrain(make_recipe("mae", "test_vit", epochs=4), prepared, tmp_path)
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(lines) == 1
    assert "the loss" in lines[0]
    assert mae.MAE.advice in lines[0]


@pytest.mark.parametrize("epoch", [1, 2])
def test_embeddings_that_are_all_alike_stop_the_run_within_the_epoch(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    whole, steps = Encoder.forward, []

    def dead(self: Encoder, x: Tensor) -> Tensor:
        features = whole(self, x)
        steps.append(self.training)
        return features * 0 + 1 if sum(steps) > 4 * (epoch - 1) else features

    monkeypatch.setattr(Encoder, "forward", dead)
    message = rf"simclr collapsed in epoch {epoch}: all embeddings are alike \(spread 0\.000.*"
    with pytest.raises(UserError, match=message) as raised:
        pretrain(make_recipe("simclr", "test_resnet", epochs=3), prepared, tmp_path)
    assert str(raised.value).endswith(simclr.SimCLR.advice)
