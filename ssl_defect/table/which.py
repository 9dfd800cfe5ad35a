"""which: a folder of pictures to the table that says which pretraining makes a detector of them better."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from ssl_defect.artifacts import atomic
from ssl_defect.config import Recipe, key_and_value, put, read_yaml, validate
from ssl_defect.console import say
from ssl_defect.data.records import Sample
from ssl_defect.data.roots import PACKAGE, resolve_root, scan_source
from ssl_defect.errors import UserError, clear_system_errors
from ssl_defect.table.command import Request, make

PATTERN = Path(__file__).parent / "which_pretraining.yaml"
NAME = "which.yaml"
METRICS = {"segmentation": ["pixel ap", "pixel aupro", "image auroc"]}
OF_IMAGES = ["image auroc", "image ap"]
BUDGETS = "learns from"


def which(root: str, asked: Request, dry: bool = False) -> list[Path]:
    """Write the recipe of the table for the pictures in `root` into its folder and make the table; what was written.

    Args:
        root: folder of pictures in a layout that `ssl-defect datasets` lists, or `package:NAME`.
        asked: its `recipe` is not read.
        dry: run nothing and write nothing, print what would run.

    Raises:
        UserError: no such layout, no good or no defective pictures, or as `make` does.
    """
    root = _plain(root)
    recipe = recipe_for(root, asked.settings)
    out = asked.out or Path("reports") / str(recipe["name"])
    if not dry:
        _check_owner(out, root)
    if dry or asked.estimate or asked.so_far:
        with TemporaryDirectory(prefix="ssl-defect-") as folder:
            return make(replace(asked, recipe=_write(recipe, Path(folder), root), out=out), dry)
    with clear_system_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        path = _write(recipe, out, root)
    say(f"which: {path} is the recipe; to change more than --set does, edit a copy and give it to ssl-defect table")
    return make(replace(asked, recipe=path, out=out))


def _plain(root: str) -> str:
    """The folder without a slash behind it, which a shell adds."""
    return root if root.startswith(PACKAGE) else str(Path(root))


def _check_owner(out: Path, root: str) -> None:
    """What was made of other pictures is not overwritten."""
    if not (out / NAME).is_file():
        return
    try:
        other = read_yaml(out / NAME)["base"]["data"]["root"]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{out / NAME}: not a recipe that `which` wrote; move it away, or give another --out"
        ) from error
    if _place(other) != _place(root):
        raise UserError(f"{out}: holds the table of {other}; give {root} another folder with --out")


def _place(root: Any) -> str:
    """The same for every way to write the same folder."""
    return str(root) if str(root).startswith(PACKAGE) else str(Path(str(root)).expanduser().resolve())


def _write(recipe: dict[str, Any], folder: Path, root: str) -> Path:
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=120)
    with atomic(folder / NAME) as temporary:
        temporary.write_text(f"# Written by ssl-defect which {root!r}, anew each time.\n{text}", encoding="utf-8")
    return folder / NAME


def recipe_for(root: str, settings: Sequence[str] = ()) -> dict[str, Any]:
    """The table's recipe: source and task by what lies in the folder, budgets by how many labels it has.

    Args:
        settings: as of `--set`; those of the data and the task count here, all are for `make`.

    Raises:
        UserError: as the source does, or nothing is good, or nothing defective.
    """
    recipe = read_yaml(PATTERN)
    recipe["name"] = "which_" + (
        re.sub(r"[^A-Za-z0-9_.]+", "_", Path(root.removeprefix(PACKAGE)).resolve().name) or "root"
    )
    base = recipe["base"]
    base["data"] |= {"source": source_of(root), "root": root}
    given: dict[str, Any] = {"name": recipe["name"], "data": dict(base["data"])}
    for text in settings:
        key, value = key_and_value(text)
        if key == "data.root":
            raise UserError(f"--set {text}: the folder is the argument: ssl-defect which {value}")
        if key.startswith("data.") or key == "finetune.task":
            put(given, key, value, f"--set {text}")
    wanted = validate(Recipe, given, "which")
    _, samples = scan_source(wanted)
    kinds = Counter(sample.defect for sample in samples if sample.label)
    if not kinds or len(samples) == sum(kinds.values()):
        kind = "defective" if not kinds else "good"
        raise UserError(
            f"{root}: there is no {kind} picture; which pretraining helps is measured on good and defective ones. "
            "Detectors from good pictures alone: see docs/anomaly.md"
        )
    task = wanted.finetune.task if "finetune" in given else _task(samples)
    base["finetune"]["task"] = task
    recipe["metrics"] = METRICS.get(task, OF_IMAGES)
    share = 1 - wanted.data.test_share - wanted.data.val_share
    _spare_budgets(recipe, max(kinds.values()) * share)
    masks = sum(bool(sample.mask) for sample in samples if sample.label)
    if task == "segmentation" and not masks:
        raise UserError(
            f"{root}: no defective picture has a mask, and segmentation learns from masks; "
            "leave finetune.task out, or lay masks under masks/"
        )
    learnt = ", ".join(recipe["matrix"][BUDGETS])
    say(
        f"which: {len(samples)} pictures ({wanted.data.source}), {sum(kinds.values())} defective of {len(kinds)} "
        f"kind{'s' if len(kinds) > 1 else ''}, {masks} of these with masks: {task}; learns from {learnt}"
    )
    return recipe


def source_of(root: str) -> str:
    """The layout of a folder, as far as its names tell: `folder` where nothing else does."""
    if root == f"{PACKAGE}elpv_dataset":
        return "elpv"
    folder = resolve_root(root)
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        return "mvtec"
    return "magnetic_tile" if (folder / "MT_Free").is_dir() else "folder"


def _task(samples: Sequence[Sample]) -> str:
    """Segmentation where at least half of the defective pictures have a mask to learn from."""
    defective = [sample for sample in samples if sample.label]
    return "segmentation" if 2 * sum(bool(one.mask) for one in defective) >= len(defective) else "classification"


def _spare_budgets(recipe: dict[str, Any], most: float) -> None:
    """Take out budgets that are all labels of the largest kind of defect anyway, and a mean over fewer than two."""
    axis = recipe["matrix"][BUDGETS]
    for name in [name for name in axis if name.isdecimal() and int(name) >= most]:
        del axis[name]
    left = [name for name in axis if name.isdecimal()]
    recipe["average"] = {BUDGETS: left} if len(left) > 1 else {}
