"""What every test shares: two threads at most, no warnings, and where the real pictures lie."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from packaging.version import Version

# no test is timed: on a busy machine a draw may wait a second for a core
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """With the oldest libraries (`make lowest`) some figures are not those written down."""
    if item.get_closest_marker("newest_timm") and Version(version("timm")) < Version("1.0.31"):
        pytest.skip("timm is older than 1.0.31, its test models are others")


@pytest.fixture(scope="session")
def magnetic_tile_root() -> Path:
    """The Magnetic Tile pictures; the test is skipped, saying so, where they are missing."""
    return _real("magnetic_tile")


@pytest.fixture(scope="session")
def screw_root() -> Path:
    """One category of MVTec AD; the test is skipped, saying so, where it is missing."""
    return _real("mvtec/screw")


def _real(name: str) -> Path:
    root = REAL / name
    if not root.is_dir():
        pytest.skip(f"real pictures are not beside the checkout: ../shared/data/{name}")
    return root
