"""Device, precision and layout: what `auto` becomes, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_defect.config import ComputeSettings
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.train import device


def compute(**settings: Any) -> ComputeSettings:
    return ComputeSettings(**settings)


@pytest.mark.parametrize(("flags", "expected"), [("fpu avx512_bf16", True), ("amx_bf16 x", True), ("avx512f", False)])
def test_bfloat16_is_read_from_the_processor_s_flags(tmp_path: Path, flags: str, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name\t: X\nflags\t\t: {flags}\n", encoding="utf-8")
    assert device.cpu_has_bfloat16(tmp_path / "cpuinfo") is expected
    assert device.cpu_has_bfloat16(tmp_path / "missing") is False


@pytest.mark.parametrize(
    ("name", "processor", "asked", "expected"),
    [
        ("test_resnet", True, "auto", "bfloat16"),
        ("test_vit", True, "auto", "bfloat16"),
        ("tf_efficientnet_lite0", True, "auto", "float32"),
        ("test_resnet", False, "auto", "float32"),
        ("test_resnet", False, "bfloat16", "bfloat16"),
        ("test_resnet", True, "float32", "float32"),
    ],
)
def test_precision(monkeypatch: pytest.MonkeyPatch, name: str, processor: bool, asked: Any, expected: str) -> None:
    monkeypatch.setattr(device, "cpu_has_bfloat16", lambda: processor)
    encoder = build_encoder(name, 32)
    assert device.resolve_precision(compute(precision=asked), "cpu", encoder) == expected
    fabric = device.make_fabric(compute(device="cpu", precision=asked, threads=1), encoder)
    assert device.precision_name(fabric) == expected


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert device.resolve_device(compute()) == "cpu"
    with pytest.raises(UserError, match=r"no cuda device here; found: cpu"):
        device.resolve_device(compute(device="cuda"))


def test_several_processes_need_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UserError, match=r"2 asked for, 1 started; use `torchrun --nproc-per-node 2"):
        device.make_fabric(compute(devices=2, threads=1), build_encoder("test_vit", 32))


def test_convolutions_are_laid_out_channels_last_and_keep_their_values() -> None:
    torch.manual_seed(0)
    encoder = build_encoder("test_resnet", 32).eval()
    pictures = torch.rand(2, 1, 32, 32)
    before = encoder(pictures)
    device.lay_out(encoder)
    assert encoder.body.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(encoder(pictures), before, atol=1e-5, rtol=1e-4)


FAULTS = """
import resource, sys, torch
from ssl_defect.train.device import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep" and not keep_freed_memory():
    print(-1); sys.exit()
torch.ones(16, 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(16, 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_not_mapped_anew() -> None:
    counts = {}
    for name in ("keep", "leave"):
        done = subprocess.run([sys.executable, "-c", FAULTS, name], capture_output=True, text=True, check=True)
        counts[name] = int(done.stdout)
    if counts["keep"] < 0:
        pytest.skip("the C library is not glibc: freed memory is its own affair")
    assert counts["keep"] < counts["leave"] / 4  # of ten arrays one or two are mapped, until the heap has room for them
