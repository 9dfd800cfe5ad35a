"""Fine-tuning shared out over processes: what must divide, what a checkpoint belongs to, and that all stop as one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ssl_defect.config import dump_yaml
from ssl_defect.errors import UserError
from ssl_defect.finetune.stage import finetune
from ssl_defect.finetune.training import identity_of

Make = Callable[..., Any]
HERE = Path(__file__).parent
ALONE = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def on_devices(case: Any, devices: int) -> Any:
    compute = case.recipe.compute.model_copy(update={"devices": devices})
    return case.recipe.model_copy(update={"compute": compute})


def test_batches_that_the_devices_cannot_share_are_refused(make_case: Make, tmp_path: Path) -> None:
    case = make_case(batch_size=6)
    with pytest.raises(UserError, match=r"^finetune\.batch_size: must be a multiple of compute\.devices \(4\)$"):
        finetune(on_devices(case, 4), case.prepared, case.pretrained, tmp_path)
    with pytest.raises(UserError, match="3 asked for, 1 started"):  # so 6 is shared by 3
        finetune(on_devices(case, 3), case.prepared, case.pretrained, tmp_path)


def test_a_checkpoint_belongs_to_the_number_of_its_processes(make_case: Make) -> None:
    case = make_case()
    rows, encoder_file = case.store.rows("train"), case.pretrained / "encoder.safetensors"
    work: Any = SimpleNamespace(recipe=case.recipe, rows=rows, encoder_file=encoder_file)
    one, again, two = (identity_of(work, SimpleNamespace(world_size=size)) for size in (1, 1, 2))
    assert one == again
    assert one != two


@pytest.mark.slow
def test_all_processes_go_by_what_the_first_one_sees(make_case: Make, tmp_path: Path) -> None:
    """The first sees nothing better after its second look; the other one would go on to the last step."""
    settings = {"schedule": "plateau", "plateau_patience": 2, "drop_factor": 0.5, "warmup": 0.0, "patience": 5}
    case, out = make_case(steps=30, eval_every=1, **settings), tmp_path / "out"
    (tmp_path / "recipe.yaml").write_text(dump_yaml(on_devices(case, 2)), encoding="utf-8")
    words = [HERE / "two_lookers.py", tmp_path / "recipe.yaml", case.prepared, case.pretrained, out]
    command, environment = [*TORCHRUN, *map(str, words)], ALONE | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as started:
        try:
            _, errors = started.communicate(timeout=180)
        finally:
            started.terminate()  # processes that wait for each other; killed, it would leave them behind
    assert started.returncode == 0, errors
    first, second = (json.loads((out / f"process-{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert [value for value, _ in first["seen"]] == [0.5, 0.6, *[0.4] * 5]
    assert first["best"]["step"] == 2
    assert [rate for _, rate in first["seen"]] == pytest.approx([3e-3, 3e-3, 3e-3, 3e-3, 1.5e-3, 1.5e-3, 7.5e-4])
