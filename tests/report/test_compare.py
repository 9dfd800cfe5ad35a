"""The comparison of runs: differences as the bootstrap gives them, sets kept apart, seeds put together, one page."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from comparable import THRESHOLD, make, rewrite
from fabricated_run import NASTY_CLASS, NASTY_IMAGE, Fake
from read_page import Page
from sklearn.metrics import average_precision_score, roc_auc_score
from typer.testing import CliRunner

from ssl_defect.artifacts import read_json, write_json
from ssl_defect.cli import app
from ssl_defect.compare.agreement import agreement, contested, mcnemar
from ssl_defect.compare.baselines import Bases, baseline_of, baselines_of, baselines_told
from ssl_defect.compare.charts import Spot, efficiency
from ssl_defect.compare.figures import costs
from ssl_defect.compare.measure import families, main_metric, measure, outside, paired, recorded, spec_of
from ssl_defect.compare.page import breakable, compare, render
from ssl_defect.compare.runs import arms_of, read_runs, same_images
from ssl_defect.compare.seeds import interval, parts, parts_of_difference
from ssl_defect.compare.table import differing, ordered, signed
from ssl_defect.compare.verdict import headlines
from ssl_defect.config import dump_yaml, load_recipe
from ssl_defect.errors import UserError
from ssl_defect.evaluate.bootstrap import Resampling, paired_difference, point
from ssl_defect.evaluate.kept_counts import PIXELS, Kept, packed
from ssl_defect.evaluate.metrics import image_family
from ssl_defect.evaluate.regions import count_pixels, pixel_family
from ssl_defect.evaluate.spread import ends
from ssl_defect.evaluate.tables import write_arrays

FAKE = Fake(count=120, gradcam=0, embeddings=False, views=False, snapshots=False)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run without pretraining, and a much better one."""
    root = tmp_path_factory.mktemp("pair")
    return [
        make(root / "plain", FAKE, 0.1, 1, method="none"),
        make(root / "simclr", FAKE, 0.5, 2),
    ]


def sentence(runs: list[Path], baseline: int | None = None) -> str:
    read = read_runs(runs)
    arms = arms_of(read)
    found, main = measure(arms), main_metric(read)
    by_arm = {one.arm: one for one in found}
    bases = baselines_of(arms, None if baseline is None else read[baseline])
    (only,) = headlines(found, {by_arm[arm]: by_arm[base] for arm, base in bases.items()}, main)
    return str(only)


def test_a_difference_is_that_of_the_bootstrap(pair: list[Path]) -> None:
    plain, simclr = read_runs(pair)
    b, a = measure(arms_of([plain, simclr]))
    spec = Resampling(200, 0.95, 0)
    one, other = (image_family(run.labels, run.scores, THRESHOLD) for run in (simclr, plain))
    wanted = paired_difference(one, other, plain.groups, spec)
    for name in ("auroc", "ap", "f1"):
        assert paired(a, b, f"image {name}") == wanted[name]
    rows = [row.row for row in plain.records.predictions]
    masks = np.load(pair[0] / "prepare" / "masks.npy")[rows]
    pixels = []
    for folder in (pair[1], pair[0]):
        maps = np.load(folder / "evaluate" / "maps.npy")
        pixels.append(pixel_family(count_pixels(maps, masks, 128.0), 128.0, 0.3))
    wanted = paired_difference(*pixels, plain.groups, spec)
    for name in ("ap", "aupro", "dice"):
        assert paired(a, b, f"pixel {name}") == pytest.approx(wanted[name])
    assert outside(paired(a, b, "pixel ap"))


def test_the_metrics_of_the_kept_records_are_those_of_scikit_learn(pair: list[Path]) -> None:
    run = read_runs(pair)[1]
    found = {level: point(family, len(run.labels)) for level, family in families(run).items()}
    assert found["image"]["auroc"] == pytest.approx(roc_auc_score(run.labels, run.scores))
    masks = np.load(pair[1] / "prepare" / "masks.npy")[[one.row for one in run.records.predictions]]
    maps = np.load(pair[1] / "evaluate" / "maps.npy")
    assert found["pixel"]["ap"] == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()))


def test_the_verdict_names_a_winner_only_where_the_interval_does(pair: list[Path], tmp_path: Path) -> None:
    plain, simclr = pair
    value = recorded(read_runs(pair)[1], "pixel ap")["value"]
    text = sentence([plain, simclr])
    assert text.startswith(f"<strong>simclr</strong> is best by pixel AP: {value:.3f}, <strong>+")
    assert "from the baseline plain (95% interval of the paired difference +" in text
    reverse = sentence([plain, simclr], baseline=1)
    assert reverse.startswith("No run is better than the baseline <strong>simclr</strong>")
    assert "Next is plain, at \N{MINUS SIGN}" in reverse
    twin = make(tmp_path / "twin", FAKE, 0.11, 7)
    low = make(tmp_path / "low", FAKE, 0.1, 8, method="none")
    assert "is not shown to be better than the baseline" in (text := sentence([low, twin])) or "No run" in text
    assert "holds zero" in text


def test_runs_that_were_best_at_their_last_look_are_a_caution(pair: list[Path], tmp_path: Path) -> None:
    warning = "best at the last look in 2 of 2 fine-tunings"
    assert "at the last look in" not in Page(render(read_runs(pair))).text
    runs = [Path(shutil.copytree(run, tmp_path / run.name)) for run in pair]
    for run, best in zip(runs, (400, 390), strict=True):
        told = read_json(run / "finetune" / "finetune.json") | {"steps": 400, "stopped_early": False}
        write_json(run / "finetune" / "finetune.json", told | {"best_step": best})
    assert warning in Page(render(read_runs(runs))).text


@pytest.mark.parametrize("what", ["digest", "label", "group", "images"])
def test_no_difference_between_other_test_images(pair: list[Path], tmp_path: Path, what: str) -> None:
    other = make(tmp_path / "other", FAKE if what != "images" else Fake(count=90, gradcam=0), 0.4, 3)
    if what == "digest":
        metrics = read_json(other / "evaluate" / "metrics.json")
        metrics["protocol"]["split_digest"] = "fedcba9876543210"
        write_json(other / "evaluate" / "metrics.json", metrics)
    elif what in {"label", "group"}:
        rewrite(other, lambda row: row | ({what: 1 - int(row[what]) if what == "label" else int(row[what]) // 2}))
    runs = read_runs([*pair, other])
    assert [[run.name for run in one] for one in same_images(runs)] == [["plain", "simclr"], ["other"]]
    page = Page(render(runs))
    assert "tested on 2 different sets of images" in page.text
    assert "Only other was tested on these images" in page.text


def test_mistakes_of_the_user_are_one_line(pair: list[Path], tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "recipe.yaml").write_text((pair[0] / "recipe.yaml").read_text())
    wrong: list[tuple[list[Path], str]] = [
        ([pair[0]], "two runs or more, got 1"),
        ([pair[0], tmp_path], "not a run"),
        ([pair[0], tmp_path / "begun"], "not evaluated"),
        ([*pair, pair[0] / ".." / pair[0].name], "the same run twice"),
    ]
    for runs, text in wrong:
        with pytest.raises(UserError, match=text) as error:
            compare(runs, tmp_path / "out")
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"--baseline .*: none of the runs; give one of"):
        compare(pair, tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


def test_results_are_not_shown_beside_settings_that_did_not_make_them(pair: list[Path], tmp_path: Path) -> None:
    again = shutil.copytree(pair[1], tmp_path / "again")
    record = read_json(again / "finetune" / "record.json")
    write_json(again / "finetune" / "record.json", record | {"settings": {"steps": 200, "unheard of": 1}})
    recipe = load_recipe(again / "recipe.yaml")
    for steps, refused in ((200, False), (7, True)):
        changed = recipe.model_copy(update={"finetune": recipe.finetune.model_copy(update={"steps": steps})})
        (again / "recipe.yaml").write_text(dump_yaml(changed))
        if refused:
            with pytest.raises(UserError, match="'finetune' was made with steps 200, and the recipe says 7; finish it"):
                read_runs([pair[0], again])
        else:
            assert len(read_runs([pair[0], again])) == 2


def test_runs_that_differ_by_seed_are_put_together(tmp_path: Path) -> None:
    folders = [
        make(tmp_path / f"{method}-seed{seed}", FAKE, shift, 10 * seed + len(method), seed=seed, method=method)
        for method, shift in (("none", 0.1), ("simclr", 0.4))
        for seed in (0, 1, 2)
    ]
    runs = read_runs(folders[::-1])
    arms = arms_of(runs)
    assert {arm.name: arm.seeds for arm in arms} == {"none": [0, 1, 2], "simclr": [0, 1, 2]}
    found = {one.arm.name: one for one in measure(arms)}
    a, b = found["simclr"], found["none"]
    values = [recorded(run, "pixel ap")["value"] for run in a.arm.runs]
    entry = a.entries["pixel ap"]
    assert entry["value"] == pytest.approx(np.mean(values))
    assert entry["spread"] == (min(values), max(values))
    told = parts(np.array(values), a.without["pixel ap"])
    assert (entry["low"], entry["high"]) == pytest.approx(ends(float(np.mean(values)), told, 0.95, share=True))
    gap = paired(a, b, "pixel ap")
    assert (gap["low"], gap["high"]) == pytest.approx(
        interval(a.points["pixel ap"] - b.points["pixel ap"], a.without["pixel ap"] - b.without["pixel ap"])
    )
    text = Page(render(runs)).text
    assert "over groups of near-copies and seeds" in text
    assert "Every seed by Pixel AP" in text
    assert "a single seed" not in text


def test_runs_of_another_precision_are_no_seeds_of_one_another(tmp_path: Path) -> None:
    folders = [make(tmp_path / f"a-seed{seed}", FAKE, 0.3, seed, seed=seed) for seed in (0, 1, 2)]
    recipe = load_recipe(folders[1] / "recipe.yaml")
    compute = recipe.compute.model_copy(update={"precision": "bfloat16"})
    (folders[1] / "recipe.yaml").write_text(dump_yaml(recipe.model_copy(update={"compute": compute})))
    assert sorted(arm.seeds for arm in arms_of(read_runs(folders))) == [[0, 2], [1]]


def test_parts_of_seeds_and_groups() -> None:
    points, without = np.array([0.5, 0.7]), np.array([[0.4, 0.5, 0.6], [0.6, 0.7, 0.8]])
    groups, seeds = parts(points, without)
    assert groups.variance == pytest.approx(0.02 * 2 / 3)  # of the means 0.5, 0.6, 0.7
    assert (seeds.variance, seeds.freedom) == (pytest.approx(0.02 / 2), 1)
    assert len(parts(points[:1], without[:1])) == 1  # one seed: test groups alone
    same = parts_of_difference((points, points), (without, without), ([0, 1], [0, 1]))
    assert [one.variance for one in same] == [0, 0]  # in pairs, nothing is left
    apart = parts_of_difference((points, points), (without, without), ([0, 1], [2, 3]))
    assert [one.variance for one in apart] == pytest.approx([0, 0.01, 0.01])
    one_sided = parts_of_difference((points, points[:1]), (without, without[:1]), ([0, 1], [0]))
    assert len(one_sided) == 2


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(10, 0) == pytest.approx(2 / 2**10)
    assert mcnemar(2, 8) == mcnemar(8, 2) == pytest.approx(2 * (1 + 10 + 45) / 2**10)


def fake_run(called: str, scores: list[float], labels: str = "0000", groups: tuple[int, ...] = (0, 1, 2, 3)) -> Any:
    bits, truth = (np.array([char == "1" for char in text]) for text in (called, labels))
    return SimpleNamespace(called=bits, scores=np.array(scores), labels=truth.astype(int), groups=np.array(groups))


def test_agreement_and_the_most_contested_images() -> None:
    a = fake_run("1100", [0.9, 0.8, 0.1, 0.2], "1001")
    b = fake_run("1000", [0.9, 0.1, 0.2, 0.3], "1001")
    counts = {"both": 2, "none": 1, "a": 0, "b": 1, "p": 1.0}
    assert agreement(a, b) == counts
    assert contested([a, b], 9)[0] == 1  # the only split verdict
    assert set(contested([a, b], 9)) == {1, 2, 3}  # all agree on the first, in verdict and rank
    near = fake_run("1100", [0.9, 0.8, 0.1, 0.2], groups=(0, 1, 1, 1))
    assert contested([near, b], 9) == [1]


def test_labels_efficiency_over_budgets(tmp_path: Path) -> None:
    folders = [
        make(
            tmp_path / f"{method}-{budget}",
            FAKE,
            0.1 + 0.01 * (budget or 30) * (2 if method == "simclr" else 1),
            budget or 0,
            method=method,
            finetune={"task": "segmentation", "labels_per_class": budget},
        )
        for method in ("none", "simclr")
        for budget in (None, 5, 10)
    ]
    page = Page(render(read_runs(folders)))
    assert "How few labels" in page.text
    html = page.html[page.html.index('data-test-table="labels"') :]
    rows = [part.split("</th>")[0] for part in html[: html.index("</table>")].split('<th scope="row">')[1:]]
    assert rows == ["5", "10", "all"]
    assert page.html.count('class="between s') == 4  # two initialisations on two plots
    assert html[: html.index("</table>")].count('class="change"') == 3  # simclr against none, budget by budget


def test_budgets_of_runs_that_differ_in_more_are_said_to_be_left_out(tmp_path: Path) -> None:
    def learns(steps: int, budget: int | None) -> dict[str, Any]:
        return {"task": "segmentation", "labels_per_class": budget, "steps": steps}

    folders = [
        make(tmp_path / f"{method}-{budget}", FAKE, method=method, finetune=learns(200 if budget else 900, budget))
        for method in ("none", "simclr")
        for budget in (None, 5, 10)
    ]
    page = Page(render(read_runs(folders)))
    assert "Not here, since they differ in more: all (other finetune.steps)." in page.text


def test_bands_are_drawn_of_a_few_lines_alone() -> None:
    def drawn(count: int) -> str:
        lines = [[Spot(0, 0.5 + i / 100, 0.2, 0.9), Spot(1, 0.6, 0.3, 0.9)] for i in range(count)]
        return str(efficiency(lines, ["5", "10"], ("labels", "AUROC"), "lines"))

    assert [drawn(count).count('class="between') for count in (1, 4, 5)] == [1, 4, 0]
    assert drawn(5).count('class="dots') == 5


def test_times_of_one_network_are_not_drawn(pair: list[Path], tmp_path: Path) -> None:
    same = Page(render(read_runs(pair)))
    assert "Minutes of pretraining and fine-tuning" in same.text
    assert "Milliseconds per image" not in same.text
    other = make(tmp_path / "other", FAKE, model={"backbone": "vit_tiny_patch16_224"})
    assert "Milliseconds per image" in Page(render(read_runs([*pair, other]))).text


def test_no_more_costs_are_drawn_than_there_are_signs(pair: list[Path]) -> None:
    found = measure(arms_of(read_runs(pair)))
    told = costs([*found] * 20, "image auroc")
    assert (len({sign for sign, _ in told["legend"]}), told["left_out"]) == (24, 16)


def test_names_break_between_their_parts_and_are_escaped() -> None:
    assert breakable("a_b-<i>") == "<span>a_<wbr>b-<wbr>&lt;i&gt;</span>"


def test_few_good_images_have_a_section_of_their_own(tmp_path: Path) -> None:
    folders = [
        make(
            tmp_path / f"{detector}-{images}",
            Fake(count=120, gradcam=0, task="anomaly"),
            0.1 + 0.02 * (images or 20),
            images or 0,
            method="none",
            finetune=None,
            anomaly={"detector": detector, "options": {"images": images} if images else {}},
        )
        for detector in ("patchcore", "padim")
        for images in (None, 1, 5)
        if detector == "patchcore" or images != 1
    ]
    page = Page(render(read_runs(folders)))
    assert "How few labels" not in page.text
    assert "How few good images" in page.text
    html = page.html[page.html.index('data-test-table="good"') :]
    table = html[: html.index("</table>")]
    assert [part.split("</th>")[0] for part in table.split('<th scope="row">')[1:]] == ["1", "5", "all"]
    assert '<th scope="col">patchcore</th><th scope="col">padim</th>' in table
    assert page.html.count('class="between s') == 2
    assert table.count('class="change"') == 2  # padim against patchcore with 5 and with all
    assert "Image AUROC over 3 numbers of good images" in page.html
    assert "with as many" in table
    alone = Page(render(read_runs(folders[:3])))
    assert "How few good images" in alone.text
    assert "with as many" not in alone.text


def test_more_good_images_than_there_were_are_all_of_them(tmp_path: Path) -> None:
    fake = Fake(count=60, gradcam=0, task="anomaly")
    folders = [
        make(tmp_path / str(images), fake, finetune=None, anomaly={"detector": "padim", "options": {"images": images}})
        for images in (3, 9999)
    ]
    few, all_of_them = read_runs(folders)
    assert (few.good_images, all_of_them.good_images) == (3, None)
    assert "9,999" not in Page(render([few, all_of_them])).text


def budgeted(root: Path, methods: tuple[str, ...]) -> list[Path]:
    """Runs with 5 and 10 labels, and from good images alone, all of them or a few."""
    kinds: dict[str, dict[str, Any]] = {name: {"finetune": {"labels_per_class": int(name)}} for name in ("5", "10")}
    kinds["good"] = {"anomaly": {"detector": "padim"}}
    kinds["few"] = {"anomaly": {"detector": "padim", "options": {"images": 3}}}

    def fake(kind: str) -> Fake:
        return Fake(count=60, gradcam=0, task="segmentation" if kind.isdigit() else "anomaly")

    return [
        make(root / f"{method}-{name}", fake(name), 0.2 + 0.1 * (method == "simclr"), place, method, **one)
        for method in methods
        for place, (name, one) in enumerate(kinds.items())
    ]


def measured_against(found: Bases) -> dict[str, str]:
    return {arm.name: base.name for arm, base in found.items()}


def test_a_baseline_has_learned_from_as_much(tmp_path: Path) -> None:
    runs = read_runs(budgeted(tmp_path, ("simclr", "none")))
    found = baselines_of(arms_of(runs), None)
    kinds = ("5", "10", "good", "few")
    assert measured_against(found) == {
        f"{name}-{kind}": f"none-{kind}" for name in ("none", "simclr") for kind in kinds
    }
    page = Page(render(runs))
    assert "3 good images alone" in page.text
    for kind in kinds:
        assert f"the baseline none-{kind}" in page.text
    html = page.html[page.html.index('data-test-table="differences"') :]
    for part in html[: html.index("</table>")].split("<tr>")[2:]:
        name, base = (cell.split("</")[0].replace("<wbr>", "") for cell in re.findall(r"<span>(.*?)</span>", part)[:2])
        assert (name.split("-")[0], base) == ("simclr", f"none-{name.split('-')[1]}")
    shown = {one.split("</b>")[0] for one in page.html.split("<figcaption><b>")[1:]} - {"the picture"}
    assert len(shown) > 1
    assert len({name.split("-")[1] for name in shown}) == 1  # labels do not pass for the pretraining
    other = next(run for run in runs if run.name == "simclr-10")
    assert set(measured_against(baselines_of(arms_of(runs), other)).values()) == {f"simclr-{kind}" for kind in kinds}


def test_more_labels_are_compared_with_fewer_where_nothing_else_is(tmp_path: Path) -> None:
    runs = read_runs(budgeted(tmp_path, ("none",)))
    assert set(measured_against(baselines_of(arms_of(runs), None)).values()) == {"none-5"}
    assert Page(render(runs)).html.count('class="baseline"') == 1


def test_a_baseline_may_be_told_and_may_be_missing(tmp_path: Path) -> None:
    folders = {one.name: one for one in budgeted(tmp_path, ("none", "simclr"))}
    runs = read_runs(list(folders.values()))
    told: dict[str, str | None] = {"none-5": "none-5", "simclr-5": "none-5", "none-10": "none-5", "simclr-good": None}
    paths = {folders[name]: base and folders[base] for name, base in told.items()}
    assert measured_against(baselines_told(arms_of(runs), paths)) == {name: base for name, base in told.items() if base}
    page = Page(render(runs, told=paths))
    assert "the baseline none-5" in page.text
    assert "beside the baseline none-5" in page.text
    assert page.html.count('title="its baseline was not run"') == 5
    alone = Page(render(runs, told={folders["simclr-5"]: None}))
    assert "No run has a baseline among the others" in alone.text


def test_a_difference_is_withheld_where_the_records_kept_are_too_coarse(pair: list[Path], tmp_path: Path) -> None:
    folder = make(tmp_path / "coarse", FAKE, 0.5, 2)
    metrics = read_json(folder / "evaluate" / "metrics.json")
    metrics["pixel"]["ap"]["value"] += 0.02
    write_json(folder / "evaluate" / "metrics.json", metrics)
    a, b = measure(arms_of(read_runs([folder, pair[0]])))
    assert paired(a, b, "pixel ap")["value"] is None
    assert paired(a, b, "pixel dice")["value"] is not None
    text = Page(render(read_runs([folder, pair[0]]))).text
    assert "coarse, Pixel AP: the records kept give" in text
    assert "no difference from the baseline plain can be given" in text


def test_differences_come_from_the_counts_kept_where_there_are_any(pair: list[Path], tmp_path: Path) -> None:
    runs = [Path(shutil.copytree(run, tmp_path / run.name)) for run in pair]
    before = paired(*reversed(measure(arms_of(read_runs(runs)))), "pixel aupro")
    for run in read_runs(runs):
        rows = np.array([one.row for one in run.records.predictions])
        masks = np.load(run.folder / "prepare" / "masks.npy")[rows]
        maps = np.load(run.folder / "evaluate" / "maps.npy") * np.float32(1e-6)
        cut = 128e-6
        kept = Kept(count_pixels(maps, masks, cut), np.arange(len(rows)), cut)
        write_arrays(run.folder / "evaluate" / PIXELS, **packed(kept))
        np.save(run.folder / "evaluate" / "maps.npy", np.zeros(maps.shape, np.uint8))
    after = paired(*reversed(measure(arms_of(read_runs(runs)))), "pixel aupro")
    assert after == pytest.approx(before)
    assert after["low"] is not None
    (runs[0] / "evaluate" / PIXELS).unlink()
    assert "too coarse" in paired(*reversed(measure(arms_of(read_runs(runs)))), "pixel aupro")["why"]


def test_the_page_goes_by_the_metric_asked_for(pair: list[Path], tmp_path: Path) -> None:
    labels = make(tmp_path / "labels", Fake(count=120, task="classification", gradcam=0), 0.4, 5)
    runs = read_runs([labels, *pair])
    page = Page(render(runs, metric="pixel aupro"))
    assert "best by AUPRO" in page.text
    assert [row.arm.name for row in ordered(measure(arms_of(runs)), "pixel aupro")] == ["simclr", "plain", "labels"]
    assert main_metric(runs[:1], "pixel aupro") == "image auroc"  # it has no such metric
    found = CliRunner().invoke(app, ["compare", *map(str, pair), "--out", str(tmp_path / "out"), "--metric", "aupro"])
    assert found.exit_code != 0
    assert not (tmp_path / "out").exists()
    assert "--metric aupro: unknown; give one of image auroc" in str(found.exception)


def test_detectors_of_other_tasks_are_compared_by_their_images(pair: list[Path], tmp_path: Path) -> None:
    other = make(tmp_path / "labels", Fake(count=120, task="classification", gradcam=0), 0.4, 5)
    runs = read_runs([*pair, other])
    assert main_metric(runs) == "image auroc"
    assert main_metric(runs[:2]) == "pixel ap"
    assert "best by image AUROC" in sentence([*pair, other])
    assert "labels" in Page(render(runs)).text


def test_runs_without_verdicts_are_compared_without_them(tmp_path: Path) -> None:
    fake = Fake(count=60, one_class=True, gradcam=0)
    folders = [make(tmp_path / name, fake, 0.3, seed, model={"backbone": name}) for seed, name in enumerate("ab")]
    text = Page(render(read_runs(folders))).text
    assert "None of the runs can be judged" in text
    assert "McNemar" not in text


def test_names_settings_and_baselines(pair: list[Path], tmp_path: Path) -> None:
    wide = make(tmp_path / "plain", FAKE, 0.3, 4, method="imagenet", model={"backbone": "vit"})
    runs = read_runs([wide, *pair])
    assert [run.name for run in runs] == [f"{one.parent.name}/{one.name}" for one in (wide, *pair)]
    arms = arms_of(runs)
    assert baseline_of(arms, None).first is runs[1]
    assert baseline_of(arms, runs[2]).first is runs[2]
    assert runs[0].records.recipe.pretrain.start == "random"
    assert differing(arms)[arms[0].name] == ["start imagenet"]  # the backbone and the method have columns
    assert (signed(0.0004), signed(-0.0004), signed(-0.25)) == ("0.000", "0.000", "\N{MINUS SIGN}0.250")
    assert spec_of(runs[0]) == Resampling(200, 0.95, 0)


def test_one_page_the_same_bytes_and_nothing_of_the_names_runs(tmp_path: Path) -> None:
    fake = Fake(count=120, defects=("crack", NASTY_CLASS), gradcam=0)
    folders = [make(tmp_path / f"<b onclick=x>{name}", fake, 0.2, seed) for seed, name in enumerate(("a", "b"))]
    twice = [compare(folders, tmp_path / name).read_bytes() for name in ("one", "two")]
    assert twice[0] == twice[1]
    assert len(twice[0]) < 2**20
    page = Page(twice[0].decode())
    assert "<b onclick" in page.text
    assert NASTY_CLASS in page.text
    assert NASTY_IMAGE in page.text or "part/" in page.text
    assert not any("onclick" in facts or "onerror" in facts for _, facts in page.tags)
    linked = [facts.get(key, "") for _, facts in page.tags for key in ("src", "href")]
    assert all(link.startswith(("data:", "#")) for link in linked if link)
    policy = next(facts["content"] for _, facts in page.tags if "http-equiv" in facts)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "script-src 'sha256-" in policy


def test_the_command_writes_the_page(pair: list[Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app, ["compare", *map(str, pair), "--out", str(tmp_path / "out"), "--baseline", str(pair[1])]
    )
    assert done.exit_code == 0, done.output
    assert done.output.split() == ["comparison:", str(tmp_path / "out" / "index.html")]
    assert "No run is better than the baseline simclr" in Page((tmp_path / "out" / "index.html").read_text()).text


@pytest.mark.parametrize(("last", "written"), [("report", True), ("evaluate", False)])
def test_two_runs_of_one_recipe_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str, written: bool
) -> None:
    from ssl_defect import pipeline

    def run(recipe: Any, out: Path, *_: str, force: bool) -> None:
        anomaly = recipe.anomaly is not None
        sections = {"anomaly": {"detector": "padim"}} if anomaly else {}
        make(out, FAKE, 0.2 if anomaly else 0.4, int(anomaly), **sections)

    monkeypatch.setattr(pipeline, "run", run)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "name: two\ndata: {source: folder, root: x}\nfinetune: {task: segmentation}\nanomaly: {detector: padim}\n"
    )
    done = CliRunner().invoke(app, ["run", str(recipe), "--out", str(tmp_path / "out"), "--to", last])
    assert done.exit_code == 0, done.output
    page = tmp_path / "out" / "compare" / "index.html"
    assert page.exists() == written
    assert (f"comparison: {page}" in done.output.replace("\n", "")) == written


def test_it_never_imports_torch() -> None:
    code = "import sys, ssl_defect.compare.page; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
