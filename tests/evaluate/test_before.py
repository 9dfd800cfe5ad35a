"""Features from before fine-tuning: of the right encoder, of the same images, and only where it was changed."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from test_evaluate_stage import DEFECTS, SIZE, _prepare, _recipe

from ssl_defect.data.store import open_store
from ssl_defect.evaluate import stage, tables
from ssl_defect.evaluate.before import starting_encoder
from ssl_defect.evaluate.embed import turned
from ssl_defect.evaluate.neighbours import neighbour_auroc
from ssl_defect.fingerprints import STAGES
from ssl_defect.nets.backbones import Encoder, build_encoder
from ssl_defect.nets.detector import Detector, Spec, save_detector
from ssl_defect.nets.weights import save_encoder

BEFORE = {f"before_{name}_{axis}" for name in ("pca", "tsne", "umap") for axis in "xy"}


@pytest.fixture(autouse=True)
def plane(monkeypatch):
    """PCA in the place of t-SNE and UMAP, which take their time: the columns alone count here."""
    monkeypatch.setattr(tables, "embed", lambda features, seed: dict.fromkeys(tables.PROJECTIONS, _pca(features)))


def _pca(features):
    return PCA(2, svd_solver="full").fit_transform(features)


def _encoder(seed, name="test_resnet"):
    torch.manual_seed(seed)
    return build_encoder(name, SIZE)


def _made(folder, before=0, after=1, task="classification"):
    """A run folder with a detector, and the encoder that it is said to have started from."""
    prepared = _prepare(folder / "prepare", DEFECTS)
    for name in ("pretrain", "finetune", "evaluate"):
        (folder / name).mkdir()
    options = {"dropout": 0.0} if task == "classification" else {"decoder_width": 8, "score_share": 0.01}
    spec = Spec(task, "test_resnet", SIZE, 1, ["good", "defective"], options)
    save_detector(folder / "finetune" / "model.safetensors", Detector(_encoder(after), spec))
    save_encoder(folder / "pretrain" / "encoder.safetensors", _encoder(before), {"method": "none"})
    return prepared


def _evaluate(folder, **settings):
    folders = [folder / name for name in ("prepare", "pretrain", "finetune", "evaluate")]
    recipe = _recipe("classification", **{"embeddings": True, **settings})
    exact = recipe.compute.model_copy(update={"precision": "float32"})
    stage.evaluate(recipe.model_copy(update={"compute": exact}), *folders)
    out, rows = folder / "evaluate", []
    if settings.get("embeddings", True):
        with (out / "embeddings.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
    return json.loads((out / "metrics.json").read_text()), rows


def test_the_stage_is_given_the_folder_that_it_reads():
    assert STAGES["evaluate"][1] == ("prepare", "pretrain", "finetune")


def test_the_same_images_by_the_encoder_that_fine_tuning_started_from(tmp_path):
    prepared = _made(tmp_path)
    shape = np.load(prepared / "images.npy").shape  # noise: the bright squares would be told apart by any encoder
    np.save(prepared / "images.npy", np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    metrics, rows = _evaluate(tmp_path)
    store, order = open_store(prepared), [int(row["row"]) for row in rows]
    assert [row["split"] for row in rows] == ["test"] * 36 + ["val"] * 12
    pictures = torch.from_numpy(np.array(store.images[order])).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        before, after = (_encoder(seed).eval()(pictures).numpy() for seed in (0, 1))
    read = {key: np.array([float(row[key]) for row in rows]) for key in rows[0] if key.endswith(("_x", "_y"))}
    assert read.keys() >= BEFORE
    assert all(np.isfinite(values).all() for values in read.values())
    for name in tables.PROJECTIONS:
        earlier, later = (np.stack([read[f"{key}_{axis}"] for axis in "xy"], 1) for key in (f"before_{name}", name))
        assert np.allclose(later, _pca(after), atol=1e-3 * np.ptp(later))
        assert np.allclose(earlier, turned(_pca(before), _pca(after)), atol=1e-3 * np.ptp(earlier))
        assert not np.allclose(earlier, later, atol=1e-2 * np.ptp(earlier))
    test = order[:36]
    told = [neighbour_auroc(one[:36], store.labels[test], store.groups[test]) for one in (before, after)]
    close = {when: pytest.approx(value, abs=0.02) for when, value in zip(("before", "after"), told, strict=True)}
    assert metrics["neighbours"] == {"k": 5, "images": 36, **close}
    assert abs(told[0] - told[1]) > 0.05, told


@pytest.mark.parametrize("case", ["frozen", "missing", "damaged", "another"])
def test_where_there_is_nothing_to_compare_nothing_is_said(tmp_path, case, capsys):
    _made(tmp_path, before=1 if case == "frozen" else 0)
    file = tmp_path / "pretrain" / "encoder.safetensors"
    if case == "missing":
        file.unlink()
        file.parent.rmdir()
    elif case == "damaged":
        file.write_bytes(b"no weights")
    elif case == "another":
        save_encoder(file, _encoder(0, "test_vit"), {})
    metrics, rows = _evaluate(tmp_path)
    assert metrics["neighbours"] is None
    assert not BEFORE & rows[0].keys()
    said = "nothing from before fine-tuning" in "".join(capsys.readouterr())
    assert said == (case in {"damaged", "another"})


def test_without_embeddings_the_file_is_not_read(tmp_path, monkeypatch):
    _made(tmp_path)
    monkeypatch.setattr(stage, "starting_encoder", lambda *_: pytest.fail("the pretraining was read"))
    assert _evaluate(tmp_path, embeddings=False)[0]["neighbours"] is None


def test_it_costs_one_pass_of_one_encoder(tmp_path, monkeypatch):
    monkeypatch.setattr("ssl_defect.evaluate.tables.write_embeddings", lambda *_: None)
    monkeypatch.setattr("ssl_defect.evaluate.inference.folded", lambda encoder: encoder)
    seen, whole = [], Encoder.forward
    monkeypatch.setattr(Encoder, "forward", lambda self, x: seen.append(len(x)) or whole(self, x))
    counts = []
    for name, before in (("changed", 0), ("frozen", 1)):
        folder = tmp_path / name
        folder.mkdir()
        _made(folder, before=before)
        seen.clear()
        stage.evaluate(
            _recipe("classification", embeddings=True),
            *(folder / one for one in ("prepare", "pretrain", "finetune", "evaluate")),
        )
        counts.append(sum(seen) - sum(one for one in seen if one == 1))
    assert counts[0] - counts[1] == 48


def test_weights_averaged_but_never_changed_are_the_same(tmp_path):
    _made(tmp_path)
    made = _encoder(0)
    for parameter in made.parameters():
        parameter.data = parameter.data * 0.9 + parameter.data * 0.1
    detector = torch.nn.Module()
    detector.encoder = made
    assert starting_encoder(detector, tmp_path / "pretrain") is None
    next(made.parameters()).data[0] += 1e-3
    assert starting_encoder(detector, tmp_path / "pretrain") is not None
    assert starting_encoder(torch.nn.Linear(2, 2), tmp_path / "pretrain") is None


def test_it_draws_nothing_from_the_seed(tmp_path):
    _made(tmp_path)
    detector = torch.nn.Module()
    detector.encoder = _encoder(1)
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    starting_encoder(detector, tmp_path / "pretrain")
    assert torch.equal(torch.rand(3), wanted)


def test_a_map_is_turned_and_never_stretched():
    rng = np.random.default_rng(0)
    points, angle = rng.normal(size=(20, 2)), 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * [1, -1]
    assert np.allclose(turned(points, points @ turn + [3, -4]), points @ turn + [3, -4])
    free = turned(points, rng.normal(size=(20, 2)))
    gaps = [np.linalg.norm(one[:, None] - one[None], axis=2) for one in (points, free)]
    assert np.allclose(*gaps)
    empty = np.full((20, 2), np.nan)
    assert np.array_equal(turned(points, empty), points)
    assert np.isnan(turned(empty, points)).all()
    assert turned(points[:0], points[:0]).shape == (0, 2)
