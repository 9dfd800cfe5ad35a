"""Arguments and options that several commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="YAML file, such as experiments/quickstart.yaml")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="More settings, as with --set.", show_default=False)
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting: pretrain.epochs=50.", show_default=False),
]
Out = Annotated[Path | None, typer.Option(help="Folder of the run; reports/<recipe's name> where left out.")]
Force = Annotated[bool, typer.Option("--force", help="Run even what is fresh.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Folder that a run wrote.")]
