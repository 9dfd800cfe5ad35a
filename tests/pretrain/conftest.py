"""Fixtures of the pretraining tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from solar_cells import write_cells
from striped_parts import write_prepared


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Golden values and bit-exact comparisons hold for one number of threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prepared(tmp_path_factory.mktemp("set") / "prepare")


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cells(tmp_path_factory.mktemp("cells") / "prepare")
