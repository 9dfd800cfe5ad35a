"""Where to compute, in which precision and with which memory layout."""

from __future__ import annotations

import ctypes
import logging
import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch import nn

from ssl_defect.config import ComputeSettings
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import is_convolutional, uses_depthwise

BFLOAT16_FLAGS = ("avx512_bf16", "amx_bf16")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def make_fabric(compute: ComputeSettings, module: nn.Module) -> Fabric:
    """A launched Fabric for `module`: device, processes, precision and threads resolved.

    Raises:
        UserError: the device is not there, or several processes are asked for without torchrun.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    device = resolve_device(compute)
    _check_processes(compute)
    keep_freed_memory()
    torch.set_num_threads(compute.threads or os.cpu_count() or 1)
    several: dict[str, Any] = {"strategy": DDPStrategy(find_unused_parameters=True)} if compute.devices > 1 else {}
    precision: Any = "bf16-mixed" if resolve_precision(compute, device, module) == "bfloat16" else "32-true"
    fabric = Fabric(accelerator=device, devices=compute.devices, precision=precision, **several)
    fabric.launch()
    return fabric


def keep_freed_memory() -> bool:
    """Let the C library keep what a step frees for the next one, instead of giving it back to the system.

    Large tensors are otherwise mapped and unmapped in every step, and each fresh page costs a fault: up to half of
    a step on a CPU (docs/decisions.md). Returns whether the library took it; only glibc does.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc
        return False
    # 1 GiB; older releases take at most 32 MiB
    taken = mallopt(M_MMAP_THRESHOLD, 2**30) or mallopt(M_MMAP_THRESHOLD, 2**25)
    return bool(taken and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def resolve_device(compute: ComputeSettings) -> str:
    """`cpu`, `cuda` or `mps`.

    Raises:
        UserError: the device that the recipe names is not there.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if compute.device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    if not there[compute.device]:
        found = ", ".join(name for name, here in there.items() if here)
        raise UserError(f"compute.device: there is no {compute.device} device here; found: {found}")
    return compute.device


def resolve_precision(compute: ComputeSettings, device: str, module: nn.Module) -> str:
    """`float32` or `bfloat16`; `auto` takes bfloat16 only where it is measured to be faster.

    On a CPU that is a processor with bfloat16 arithmetic and a backbone whose time does not go into depthwise
    convolutions (experiments/benchmarks).
    """
    if compute.precision != "auto":
        return compute.precision
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    gains = device == "cpu" and cpu_has_bfloat16() and not uses_depthwise(module)
    return "bfloat16" if gains else "float32"


def cpu_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor computes in bfloat16 (AVX512-BF16 or AMX); False where that cannot be read."""
    try:
        words = set(cpuinfo.read_text(encoding="utf-8").split())
    except OSError:
        return False
    return any(flag in words for flag in BFLOAT16_FLAGS)


def lay_out(module: nn.Module) -> nn.Module:
    """The module itself, its convolutions in channels-last layout where it gains by that (CNNs)."""
    if is_convolutional(module):
        module.to(memory_format=torch.channels_last)
    return module


def _check_processes(compute: ComputeSettings) -> None:
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if compute.devices != started:
        raise UserError(
            f"compute.devices: {compute.devices} asked for, {started} started; "
            f"use `torchrun --nproc-per-node {compute.devices} -m ssl_defect.cli ...`"
        )


def precision_name(fabric: Fabric) -> str:
    """`float32` or `bfloat16`, as the fabric computes."""
    return "bfloat16" if "bf16" in str(getattr(fabric._precision, "precision", "")) else "float32"
