"""The loop against a loop written by hand, and what it does when things go wrong."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

import ssl_defect.train.loop
from ssl_defect.data.store import Store
from ssl_defect.errors import UserError
from ssl_defect.train.batches import Batches
from ssl_defect.train.loop import Interval, Plan, fit
from ssl_defect.train.optim import constant, make_adamw, warmup_cosine
from ssl_defect.train.seeds import mixed_seed

PLAN = Plan(steps=10, interval=4, schedule=warmup_cosine(0.2), clip_norm=0.5, seed=7, identity="a", save_every=0)


class Net(nn.Module):
    """Dropout, batch statistics and noise from the generator: all that a resume could get wrong."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 1))
        self.register_buffer("after", torch.zeros(1))
        self.seen: list[float] = []

    def forward(self, batch: dict[str, Any], progress: float) -> dict[str, Tensor]:
        self.seen.append(progress)
        x = batch["image"].float() / 255
        x = x + torch.rand(x.shape, generator=batch["generator"])
        loss = functional.binary_cross_entropy_with_logits(self.net(x)[:, 0], batch["label"].float())
        return {"loss": loss, "share": batch["label"].float().mean()}

    def after_step(self, progress: float) -> None:
        self.after.add_(1 + progress)  # type: ignore[operator]


def run(net: Net, store: Store, folder: Path, plan: Plan = PLAN, stop: int | None = None) -> list[Interval]:
    batches = Batches(store, store.rows("train"), 10, plan.seed)
    optimizer = make_adamw([(net, 0.1)], 0.05)
    intervals = []
    for interval in fit(net, batches, optimizer, plan, Fabric(accelerator="cpu", devices=1), folder / "c.pt"):
        interval.state["visits"] = [*interval.state.get("visits", []), interval.step]
        intervals.append(interval)
        if interval.step == stop:
            break
    return intervals


def same(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_it_is_the_loop_that_one_would_write_by_hand(store: Store, tmp_path: Path) -> None:
    ours, bare = Net(), Net()
    intervals = run(ours, store, tmp_path)
    batches, losses = Batches(store, store.rows("train"), 10, 7), []
    decayed = [p for p in bare.parameters() if p.ndim > 1]
    spared = [p for p in bare.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": spared, "weight_decay": 0.0}], lr=0.1, fused=True
    )
    for step in range(10):
        seed = mixed_seed(7, step, 0)
        torch.manual_seed(seed)
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * warmup_cosine(0.2)(step / 10)
        batch = {**batches(step), "generator": torch.Generator().manual_seed(seed)}
        loss = bare(batch, step / 10)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*decayed, *spared], 0.5)
        optimizer.step()
        optimizer.zero_grad()
        bare.after_step(step / 10)
        losses.append(loss.item())
    assert same(ours, bare)
    assert ours.seen == [step / 10 for step in range(10)]
    assert [i.step for i in intervals] == [0, 4, 8, 10]
    assert intervals[0].logs == {}
    for interval, part in zip(intervals[1:], (losses[:4], losses[4:8], losses[8:]), strict=True):
        assert interval.logs["loss"] == pytest.approx(sum(part) / len(part), rel=1e-6)
        assert interval.last["loss"] == pytest.approx(part[-1], rel=1e-6)
        assert interval.images_per_second > 0


@pytest.mark.parametrize("stop", [4, 8])
def test_a_run_that_was_stopped_ends_with_the_same_weights(store: Store, tmp_path: Path, stop: int) -> None:
    whole, first, second = Net(), Net(), Net()
    (tmp_path / "a").mkdir()
    run(whole, store, tmp_path / "a")
    run(first, store, tmp_path, stop=stop)
    intervals = run(second, store, tmp_path)
    assert same(whole, second)
    assert intervals[0].step == stop - 4  # the checkpoint is written after the caller goes on
    assert intervals[-1].state["visits"][-1] == 10


def test_a_finished_run_trains_no_further(store: Store, tmp_path: Path) -> None:
    one, two = Net(), Net()
    run(one, store, tmp_path)
    intervals = run(two, store, tmp_path)
    assert [(i.step, i.logs) for i in intervals] == [(10, {})]
    assert same(one, two)


def test_checkpoints_are_no_closer_than_asked(store: Store, tmp_path: Path) -> None:
    run(Net(), store, tmp_path, replace(PLAN, save_every=1e6), stop=8)
    assert not (tmp_path / "c.pt").exists()


def test_a_checkpoint_of_other_settings_is_refused(store: Store, tmp_path: Path) -> None:
    run(Net(), store, tmp_path)
    for other in (replace(PLAN, identity="b"), replace(PLAN, steps=12)):
        with pytest.raises(UserError, match=r"c\.pt: made with other settings; delete"):
            run(Net(), store, tmp_path, other)


class Breaks(Net):
    def __init__(self, at: int, gradient_only: bool) -> None:
        super().__init__()
        self.at, self.gradient_only, self.count = at, gradient_only, itertools.count(1)

    def forward(self, batch: dict[str, Any], progress: float) -> dict[str, Tensor]:
        output = super().forward(batch, progress)
        if next(self.count) == self.at:
            if self.gradient_only:  # the square root of 0 is finite, its slope is not
                output["loss"] = output["loss"] + (self.net[1].weight.sum() * 0).sqrt()
            else:
                output["loss"] = output["loss"] * float("nan")
        return output


@pytest.mark.parametrize("gradient_only", [False, True])
@pytest.mark.parametrize("at", [3, 6, 8])
def test_a_broken_loss_is_named_with_step_and_last_good_checkpoint(
    store: Store, tmp_path: Path, at: int, gradient_only: bool
) -> None:
    kept = "there is no checkpoint" if at <= 4 else "the last good checkpoint is .*c.pt"
    number = 1 if at <= 4 else 2
    with pytest.raises(UserError, match=rf"not finite at step {at} of 10 \(epoch {number}\); {kept}.*learning_rate"):
        run(Breaks(at, gradient_only), store, tmp_path, replace(PLAN, unit="epoch"))
    if at > 4:
        content = torch.load(tmp_path / "c.pt", weights_only=True)
        assert content["step"] == 4
        assert all(bool(torch.isfinite(x).all()) for x in content["module"].values())


def test_the_caller_may_switch_to_evaluation(store: Store, tmp_path: Path) -> None:
    net = Net()
    loop = fit(
        net,
        Batches(store, store.rows("train"), 10, 0),
        make_adamw([(net, 0.1)], 0),
        Plan(2, 1, constant),
        Fabric(accelerator="cpu", devices=1),
        tmp_path / "c.pt",
    )
    for _ in loop:
        net.eval()
        modes: list[bool] = []
        net.register_forward_pre_hook(lambda module, _inputs, modes=modes: modes.append(module.training))
    assert all(modes)


def test_the_loop_stays_short() -> None:
    assert len(Path(ssl_defect.train.loop.__file__).read_text(encoding="utf-8").splitlines()) < 150
