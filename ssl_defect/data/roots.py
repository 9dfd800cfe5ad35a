"""From a recipe's `data` section to a list of samples: the one place that resolves roots and finds sources."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from ssl_defect.config import Recipe, Settings, validate
from ssl_defect.data.records import Sample
from ssl_defect.data.sources import SOURCES
from ssl_defect.errors import UserError, nearest

PACKAGE = "package:"
EXTRAS = {"elpv_dataset": "elpv"}  # packages of pictures that an extra of ours installs


def resolve_root(root: str) -> Path:
    """Folder that `data.root` means: `package:NAME` is an installed package's folder, `~` is the home folder.

    Raises:
        UserError: the package is not installed, or no name is given.
    """
    if not root.startswith(PACKAGE):
        if not root.strip():
            raise UserError("data.root: empty; give the folder that holds the pictures")
        return Path(root).expanduser()
    name = root.removeprefix(PACKAGE).strip()
    spec = find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        what = f"'ssl-defect[{EXTRAS[name]}]'" if name in EXTRAS else f"the package that provides '{name}'"
        raise UserError(f"data.root: the package '{name}' is not installed; run: pip install {what}")
    return Path(spec.submodule_search_locations[0])


def scan_source(recipe: Recipe) -> tuple[Path, list[Sample]]:
    """Resolved root and the samples that the recipe's source finds there; nothing is decoded.

    Raises:
        UserError: unknown source, wrong options, or whatever the source finds wrong with the folder.
    """
    name = recipe.data.source
    if name not in SOURCES:
        raise UserError(
            f"{recipe.name}: data.source: unknown source '{name}'; "
            f"accepted: {', '.join(SOURCES)}{nearest(name, SOURCES)}"
        )
    module = import_module(SOURCES[name][0])
    options = validate(cast(type[Settings], module.Options), recipe.data.options, recipe.name, "data.options")
    scan = cast(Callable[[Path, Settings], list[Sample]], module.scan)
    root = resolve_root(recipe.data.root)
    return root, scan(root, options)
