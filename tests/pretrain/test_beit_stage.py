"""BEiT through the stage: the tokenizer is trained first, learns, and either phase may be killed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from striped_parts import SIZE, make_recipe
from test_pretrain_processes import HERE, finish, kill_after

from ssl_defect.data.store import open_store
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.pretrain.beit import BEiT, Options
from ssl_defect.pretrain.stage import make_facts, pretrain
from ssl_defect.pretrain.training import train_preliminary
from ssl_defect.pretrain.work import Work
from ssl_defect.train.device import make_fabric

EPOCHS = 40  # of the tokenizer: 160 steps


@pytest.mark.slow
def test_a_trained_tokenizer_paints_better_than_the_mean_picture_and_is_frozen(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, store = make_recipe("beit", "test_vit"), open_store(cells)
    torch.manual_seed(0)
    rows = store.rows("train")
    options = Options(tokenizer_epochs=EPOCHS)
    method = BEiT(build_encoder("test_vit", SIZE), options, make_facts(recipe, store, len(rows), 16))
    fabric = make_fabric(recipe.compute, method)
    train_preliminary(Work(recipe, method, store, rows, 16, "", tmp_path), fabric)
    lines = [line for line in capsys.readouterr().err.splitlines() if ", epoch " in line]
    assert len(lines) == EPOCHS
    assert lines[-1].startswith(f"beit: tokenizer, epoch {EPOCHS}/{EPOCHS}, loss ")
    assert ", codes " in lines[-1]
    assert not any(p.requires_grad for p in method.tokenizer.parameters())

    def read(split: str) -> torch.Tensor:
        return torch.from_numpy(store.images[store.rows(split)]).permute(0, 3, 1, 2) / 255

    unseen, net = read("val"), method.tokenizer.net
    tokens = net.tokens(unseen)
    error = float((net.decode(tokens, unseen) - unseen).square().mean())
    assert error < 0.7 * float((read("train").mean(dim=0) - unseen).square().mean())
    assert error < 0.9 * float((unseen.mean(dim=(1, 2, 3), keepdim=True) - unseen).square().mean())
    assert len(tokens.unique()) > 8


def test_codes_collapse_where_nothing_keeps_them_in_use_and_it_is_said(cells: Path, tmp_path: Path) -> None:
    recipe = make_recipe("beit", "test_vit", options={"tokenizer_epochs": 6, "diversity": 0.0})
    with pytest.raises(UserError, match=r"beit: the tokenizer collapsed: [123]\.\d of 256 codes.*diversity") as raised:
        pretrain(recipe, cells, tmp_path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "encoder.safetensors").exists()


@pytest.mark.slow
def test_killed_in_either_phase_it_ends_with_the_same_weights(prepared: Path, tmp_path: Path) -> None:
    script, whole, broken = HERE / "killed_stage.py", tmp_path / "whole", tmp_path / "broken"
    rest = ("beit", "test_vit", '{"tokenizer_epochs": 8}')
    finish(script, prepared, whole, *rest)
    kill_after(3, script, prepared, broken, *rest, mark="beit: tokenizer, epoch ")
    assert list(broken.glob("preliminary.pt*"))  # between two renames it is the previous one
    kill_after(3, script, prepared, broken, *rest)
    assert list(broken.glob("checkpoint.pt*"))
    finish(script, prepared, broken, *rest)
    for name in ("encoder.safetensors", "pictures.npz"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
    assert sorted(p.name for p in whole.iterdir()) == sorted(p.name for p in broken.iterdir())
