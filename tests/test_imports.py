"""The house keeps its rules: imports point one way, and what must be light stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "ssl_defect"
STAGES = ("data", "pretrain", "finetune", "anomaly", "evaluate", "report")
DATA_ACCESS = {"records", "splits", "store", "augment", "boxes", "defects", "poisson"}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_point_one_way(path: Path) -> None:
    here = room(path)
    own = [name.split(".") for name in imports(path) if name.startswith("ssl_defect.")]
    for parts in own:
        there, inner = parts[1], parts[2] if len(parts) > 2 else ""
        where = f"{path.name} imports {'.'.join(parts)}"
        if here in {"config", "settings", "artifacts", "errors", "console"}:
            assert there in {"config", "settings", "artifacts", "errors", "console"}, where
        if here in {"nets", "train"}:
            low = {"nets", "train", "config", "settings", "artifacts", "errors", "console"}
            assert there in low or (there == "data" and inner in DATA_ACCESS | {""}), where
        if here in STAGES:
            assert there not in {"cli", "pipeline", "fingerprints", "predict"}, where
            if there in STAGES and there != here:
                assert there == "data", where
                assert inner in DATA_ACCESS | {""}, where


def test_only_backbones_imports_timm() -> None:
    users = {path.name for path in FILES if any(name.split(".")[0] == "timm" for name in imports(path))}
    assert users == {"backbones.py"}


def test_the_report_never_imports_torch() -> None:
    code = "import sys, ssl_defect.report.stage; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_planning_a_run_loads_torch_and_nothing_slower() -> None:
    """What is fresh, a table's list and a mistake are said without the libraries that only a stage at work needs."""
    code = (
        "import sys\nfrom importlib import import_module\n"
        "from ssl_defect import fingerprints\nfrom ssl_defect.data.sources import SOURCES\n"
        "from ssl_defect.finetune import TASKS\nfrom ssl_defect.nets.anomaly import DETECTORS\n"
        "from ssl_defect.pretrain import METHODS\n"
        "tasks = {name: entry for name, entry in TASKS.items() if name not in ('detection', 'instance')}\n"
        "for table in (SOURCES, METHODS, tasks, DETECTORS):\n"
        "    [import_module(module) for module, _ in table.values() if module]\n"
        "import_module(fingerprints.STAGES['prepare'][0]); import_module(fingerprints.STAGES['report'][0])\n"
        "print(sorted({'timm', 'torchvision', 'sklearn', 'matplotlib', 'lightning_fabric'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_method_never_imports_a_method() -> None:
    from ssl_defect.pretrain import METHODS

    modules = {module for module, _ in METHODS.values() if module}
    for module in modules:
        path = PACKAGE.parent / (module.replace(".", "/") + ".py")
        assert not (imports(path) & (modules - {module}))


def test_init_files_are_empty_or_literal() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            literal = isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
            assert literal or isinstance(node, ast.Expr), f"{path}: more than a literal table"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom ssl_defect.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'sklearn', 'pydantic', 'cv2', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")
