"""What a training step of a backbone costs with torch's depthwise convolutions and with ours, in turns.

    python experiments/benchmarks/depthwise.py [--rounds 7] [--threads 1] [--backbones tf_efficientnet_lite0]

A step: forward, backward, no optimizer, channels-last, float32. Medians over the rounds; the largest difference of a
gradient is shown beside them, in parts of the largest gradient of its layer.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from typing import Any

import timm
import torch
from torch import Tensor, nn

from ssl_defect.artifacts import machine, versions
from ssl_defect.nets.depthwise import quicken
from ssl_defect.train.device import keep_freed_memory

BACKBONES = ["tf_efficientnet_lite0", "mobilenetv3_small_100", "convnext_atto"]
CASES = [(64, 16), (64, 64), (96, 64), (128, 8), (128, 64), (224, 16)]  # pixels, pictures


def step(model: nn.Module, x: Tensor) -> float:
    """Seconds of a step; the gradients stay."""
    model.zero_grad()
    began = time.perf_counter()
    model(x).sum().backward()
    return time.perf_counter() - began


def farthest(one: nn.Module, other: nn.Module, x: Tensor) -> float:
    """Largest relative difference of a gradient between two models of the same weights, as they predict."""
    for model in (one.eval(), other.eval()):
        model.zero_grad()
        model(x).square().sum().backward()
    pairs = [(a.grad, b.grad) for a, b in zip(one.parameters(), other.parameters(), strict=True)]
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs if a is not None and b is not None)


def measure(name: str, size: int, pictures: int, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    plain = timm.create_model(name, num_classes=2).train().to(memory_format=torch.channels_last)
    quick = quicken(copy.deepcopy(plain))
    start = copy.deepcopy(plain.state_dict())
    x = torch.rand(pictures, 3, size, size).contiguous(memory_format=torch.channels_last)
    sides = {"torch": plain, "ours": quick}
    for model in sides.values():
        step(model, x)
    spans = {side: [] for side in sides}  # type: dict[str, list[float]]
    for _ in range(rounds):
        for side, model in sides.items():
            spans[side].append(1000 * step(model, x))
    for model in sides.values():
        model.load_state_dict(start)
    medians = {side: statistics.median(each) for side, each in spans.items()}
    print(
        f"| `{name}` | {size} | {pictures} | {medians['torch']:.0f} | {medians['ours']:.0f} "
        f"| {medians['torch'] / medians['ours']:.2f} | {farthest(plain, quick, x):.0e} |",
        flush=True,
    )
    return {"backbone": name, "size": size, "pictures": pictures, "ms": spans}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    print("| backbone | pixels | pictures | torch, ms | ours, ms | times | gradients apart |\n" + "|---" * 7 + "|")
    found = [measure(name, size, pictures, options.rounds) for name in options.backbones for size, pictures in CASES]
    print(json.dumps({"settings": vars(options), "machine": machine(), "versions": versions(), "found": found}))


if __name__ == "__main__":
    main()
