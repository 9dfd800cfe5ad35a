"""What the page shows of a pretraining comes from its records: no method is known here by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fabricated_run import NASTY_CLASS, Fake, build
from read_page import Page

from ssl_defect.errors import UserError
from ssl_defect.report import learning, watching
from ssl_defect.report.records import RunRecords, read_run
from ssl_defect.report.stage import report

Make = Callable[[Fake], Page]
NEW = Fake(
    method="mae",
    title="Method of tomorrow",
    logs={"queue_use": "share of the queue in use, in [0, 1]", "entropy": NASTY_CLASS},
    strip=("picture", "torn", "mended", "as told"),
)


def records_of(tmp_path: Path, fake: Fake) -> RunRecords:
    return read_run(build(tmp_path, fake), tmp_path)


def curves_of(page: Page) -> dict[str, Any]:
    return {facts["data-test-curve"]: facts for _, facts in page.tags if "data-test-curve" in facts}


def test_a_method_that_the_report_never_heard_of_is_shown_whole(make_page: Make) -> None:
    page = make_page(NEW)
    assert "Health of Method of tomorrow, by epoch" in page.text
    assert "What Method of tomorrow sees" in page.text
    assert "share of the queue in use, in [0, 1]" in page.text
    assert NASTY_CLASS in page.text
    assert list(curves_of(page))[:2] == ["queue_use", "entropy"]
    for name in ("picture", "torn", "mended", "as told, before training", "as told, after it"):
        assert f">{name}</th>" in page.html


def test_every_scalar_of_the_history_has_its_curve(tmp_path: Path) -> None:
    found = {one["column"]: one for one in watching.health(records_of(tmp_path, Fake()))}
    expected = ["agreement", "spread", "rank", "feature_spread", "learning_rate", "images_per_second"]
    assert list(found) == expected  # no gradient_norm: the history has none
    assert found["agreement"]["note"] == "mean cosine of the two views, in [-1, 1]"
    assert "effective rank: from 15.2 to 35 over 5 epochs" in found["rank"]["figure"]  # from before the first epoch


def test_the_loss_stands_beside_that_of_not_looking(tmp_path: Path) -> None:
    loss, knn, linear = watching.curves(records_of(tmp_path, Fake()))
    assert str(loss["figure"]).count('class="line chance"') == 1
    assert loss["note"] == "dashed: an answer that never looks at the picture (3.43)"
    assert [one["title"] for one in (knn, linear)] == [
        "Pretraining: kNN AUROC on validation",
        "Pretraining: linear AUROC on validation",
    ]
    assert "from 0.612 to 0.75" in knn["figure"]
    assert "chance" not in knn["figure"]


def test_pictures_that_training_did_not_change_are_shown_once(tmp_path: Path) -> None:
    records = records_of(tmp_path, Fake())
    names = [row["name"] for row in watching.strips(records)["rows"]]
    assert names == ["picture", "one view", "another view, before training", "another view, after it"]
    same = RunRecords(**{**vars(records), "views_before": records.views})
    assert [row["name"] for row in watching.strips(same)["rows"]] == ["picture", "one view", "another view"]


def test_snapshots_show_every_picture_in_the_colour_of_its_class(tmp_path: Path) -> None:
    records = records_of(tmp_path, Fake())
    classes = [name for name, _ in learning.embeddings(records)["legend"]]
    pca, tsne = watching.snapshots(records, classes)["maps"]
    assert [one["title"] for one in pca["figures"]] == [
        "before training",
        "after epoch 2",
        "after epoch 3",
        "after epoch 5",
    ]
    assert [one["title"] for one in tsne["figures"]] == ["after epoch 2", "after epoch 3", "after epoch 5"]
    defects = [records.store.samples[row].defect for row in records.snapshots["rows"]]
    drawn = str(pca["figures"][0]["figure"]).split("<path")
    for number, name in enumerate(classes):
        (path,) = [part for part in drawn if f"dots s{number} " in part]
        assert path.partition('d="')[2].count("M") == defects.count(name)


def test_the_legend_holds_the_classes_of_maps_and_snapshots(tmp_path: Path) -> None:
    assert {name for name, _ in learning.embeddings(records_of(tmp_path, Fake(embeddings=False)))["legend"]} == {
        "good",
        "crack",
        "stain",
    }


def test_without_embeddings_the_snapshots_keep_a_legend(make_page: Make) -> None:
    page = make_page(Fake(embeddings=False))
    assert page.html.count('<ul class="legend">') == 1
    assert "Before and after pretraining" in page.text


@pytest.mark.parametrize("broken", [{"rows": [0, 10_000]}, {"pca": np.zeros((4, 3, 2))}, {"tsne": None}])
def test_snapshots_that_do_not_fit_are_one_clear_line(tmp_path: Path, broken: dict[str, Any]) -> None:
    recipe = build(tmp_path, Fake())
    path = tmp_path / "pretrain" / "snapshots.npz"
    with np.load(path) as arrays:
        changed = dict(arrays) | broken
    np.savez(path, **{key: value for key, value in changed.items() if value is not None})
    with pytest.raises(UserError, match=r"snapshots\.npz: damaged"):
        report(recipe, tmp_path, tmp_path / "report")


def test_an_older_run_without_these_records_still_has_a_page(make_page: Make, tmp_path: Path) -> None:
    recipe = build(tmp_path, Fake(snapshots=False, logs={}))
    (tmp_path / "pretrain" / "pretrain.json").write_text(
        '{"method": "simclr", "epochs": 5, "precision": "float32"}', encoding="utf-8"
    )
    report(recipe, tmp_path, tmp_path / "report")
    page = Page((tmp_path / "report" / "index.html").read_text(encoding="utf-8"))
    assert "What simclr sees" in page.text
    assert ">picture 1</th>" in page.html
