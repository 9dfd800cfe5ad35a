"""The pipeline runner, with stages of a few lines: skipping, sharing, resuming, refusing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ssl_defect import artifacts, fingerprints, pipeline
from ssl_defect.config import DataSettings, Recipe
from ssl_defect.errors import UserError
from ssl_defect.evaluate import TASK_METRICS

FAKE = """
from pathlib import Path
CALLS = []
FAIL = {}
def _stage(name):
    def stage(recipe, *folders):
        out = folders[-1]
        CALLS.append(name)
        done = out / "steps.txt"
        steps = len(done.read_text()) if done.exists() else 0
        done.write_text("x" * (steps + 1))
        if name in FAIL:
            raise FAIL[name]
    return stage
prepare, pretrain, finetune, evaluate, report = map(_stage, ("prepare", "pretrain", "finetune", "evaluate", "report"))
def inputs_digest(recipe):
    return (Path(recipe.data.root) / "raw.txt").read_text()
def template_digest():
    return "page"
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "fake_stages.py").write_text(textwrap.dedent(FAKE))
    (tmp_path / "raw.txt").write_text("pictures")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    for name, (_, needs) in list(fingerprints.STAGES.items()):
        monkeypatch.setitem(fingerprints.STAGES, name, ("fake_stages", needs))
    monkeypatch.delitem(sys.modules, "fake_stages", raising=False)
    import fake_stages

    return fake_stages


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe(name="r", data=DataSettings(source="synthetic", root=str(tmp_path)))


def change(recipe: Recipe, section: str, **values: object) -> Recipe:
    return recipe.model_copy(update={section: getattr(recipe, section).model_copy(update=values)})


def test_a_second_run_skips_everything(fake, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    assert set(pipeline.run(recipe, out).values()) == {"ran"}
    assert set(pipeline.run(recipe, out).values()) == {"fresh"}
    assert list(fingerprints.STAGES) == fake.CALLS
    assert {row.state for row in pipeline.status(out)} == {"done"}
    assert sorted(path.name for path in out.iterdir() if not path.name.startswith(".")) == sorted(
        [*fingerprints.STAGES, "recipe.yaml"]
    )


def test_a_setting_makes_its_stage_and_the_later_ones_stale(fake, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    pipeline.run(recipe, out)
    outcome = pipeline.run(change(recipe, "finetune", steps=7), out)
    assert outcome == {
        "prepare": "fresh",
        "pretrain": "fresh",
        "finetune": "ran",
        "evaluate": "ran",
        "report": "ran",
    }


def test_status_says_which_setting_changed(fake, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    pipeline.run(recipe, out)
    pipeline.run(change(recipe, "pretrain", epochs=7), out, last="prepare")
    rows = {row.stage: row for row in pipeline.status(out)}
    assert rows["prepare"].state == "done"
    assert rows["pretrain"].state == "stale"
    assert "epochs was 100, is 7" in rows["pretrain"].reason
    assert "pretrain changed" in rows["finetune"].reason


def test_other_pictures_make_everything_stale(fake, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    pipeline.run(recipe, out)
    (tmp_path / "raw.txt").write_text("others")
    assert {row.state for row in pipeline.status(out)} == {"stale"}


def test_the_place_of_the_pictures_and_the_machine_do_not_count(fake, recipe: Recipe, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "raw.txt").write_text("pictures")
    out = tmp_path / "runs" / "a"
    pipeline.run(recipe, out, last="evaluate")
    other = change(change(recipe, "data", root=str(moved)), "compute", threads=1, device="cpu")
    assert set(pipeline.run(other, out, last="evaluate").values()) == {"fresh"}


def test_a_run_beside_it_serves_its_finished_stages(fake, recipe: Recipe, tmp_path: Path) -> None:
    pipeline.run(recipe, tmp_path / "runs" / "a")
    outcome = pipeline.run(change(recipe, "finetune", steps=7), tmp_path / "runs" / "b")
    assert outcome["prepare"] == outcome["pretrain"] == "taken"
    assert outcome["finetune"] == "ran"
    inodes = [(tmp_path / "runs" / run / "pretrain" / "steps.txt").stat().st_ino for run in "ab"]
    assert inodes[0] == inodes[1]


def test_seeds_of_a_table_share_one_pretraining(fake, recipe: Recipe, tmp_path: Path) -> None:
    fixed = change(recipe, "pretrain", seed=0)
    pipeline.run(fixed, tmp_path / "runs" / "a")
    outcome = pipeline.run(fixed.model_copy(update={"seed": 1}), tmp_path / "runs" / "b")
    assert outcome["pretrain"] == "taken"
    assert outcome["finetune"] == "ran"


def test_settings_of_a_method_that_trains_nothing_do_not_count(fake, recipe: Recipe, tmp_path: Path) -> None:
    none = change(recipe, "pretrain", method="none")
    pipeline.run(none, tmp_path / "runs" / "a")
    assert pipeline.run(change(none, "pretrain", epochs=3), tmp_path / "runs" / "a")["pretrain"] == "fresh"


def test_a_failed_stage_stops_the_run_and_is_gone_on_with(fake, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    fake.FAIL["pretrain"] = UserError("no")
    with pytest.raises(UserError, match="no"):
        pipeline.run(recipe, out)
    assert fake.CALLS == ["prepare", "pretrain"]
    states = {row.stage: row.state for row in pipeline.status(out)}
    assert states["prepare"] == "done"
    assert states["pretrain"] == states["report"] == "missing"
    fake.FAIL.clear()
    pipeline.run(recipe, out)
    assert (out / "pretrain" / "steps.txt").read_text() == "xx"


def test_partial_work_of_other_settings_is_thrown_away(fake, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    fake.FAIL["pretrain"] = UserError("no")
    with pytest.raises(UserError, match="no"):
        pipeline.run(recipe, out)
    fake.FAIL.clear()
    pipeline.run(change(recipe, "pretrain", epochs=7), out)
    assert (out / "pretrain" / "steps.txt").read_text() == "x"


def test_a_damaged_stage_is_made_again(fake, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    pipeline.run(recipe, out)
    (out / "finetune" / "steps.txt").write_text("?")
    assert "altered" in next(row.reason for row in pipeline.status(out) if row.stage == "finetune")
    assert pipeline.run(recipe, out)["finetune"] == "ran"


def test_one_stage_alone_needs_the_earlier_ones(fake, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'prepare' is missing .* 'finetune' needs it"):
        pipeline.run(recipe, tmp_path / "runs" / "a", "finetune", "finetune")
    pipeline.run(recipe, tmp_path / "runs" / "a", last="pretrain")
    assert pipeline.run(recipe, tmp_path / "runs" / "a", "finetune", "finetune") == {"finetune": "ran"}


@pytest.mark.parametrize(("task", "module"), TASK_METRICS.items())
def test_evaluation_is_stale_where_the_code_of_a_task_s_own_metrics_changed(
    task: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = {"name": "r", "data": {"source": "synthetic", "root": "x"}, "finetune": {"task": task}}
    monkeypatch.setattr(fingerprints, "code_version", artifacts.code_version.__wrapped__)  # it remembers
    before = fingerprints._code(Recipe.model_validate(raw), "evaluate")
    monkeypatch.setattr(artifacts, "_syntax", lambda name, real=artifacts._syntax: _changed(real(name), name == module))
    assert fingerprints._code(Recipe.model_validate(raw), "evaluate") != before


def _changed(found: tuple[str, list[str]] | None, here: bool) -> tuple[str, list[str]] | None:
    return (f"{found[0]} changed", found[1]) if here and found else found


def test_what_cannot_run_leaves_the_recipe_of_the_run(fake, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    pipeline.run(recipe, out)
    before = (out / "recipe.yaml").read_bytes()
    (tmp_path / "raw.txt").rename(tmp_path / "gone.txt")
    with pytest.raises(FileNotFoundError):
        pipeline.run(change(recipe, "finetune", steps=7), out)
    (tmp_path / "gone.txt").rename(tmp_path / "raw.txt")
    with pytest.raises(UserError, match="'finetune' is stale"):
        pipeline.run(change(recipe, "finetune", steps=7), out, "evaluate")
    assert (out / "recipe.yaml").read_bytes() == before


def test_a_recipe_that_results_were_not_made_with_is_told(fake, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    recipe = change(recipe, "finetune", task="segmentation")
    pipeline.run(recipe, out, last="evaluate")
    records = {name: artifacts.read_record(out / name) for name in ("prepare", "pretrain", "finetune", "evaluate")}
    assert fingerprints.altered(recipe, records) == ""
    assert fingerprints.altered(change(recipe, "data", root="/elsewhere"), records) == ""
    steps = f"'finetune' was made with steps {recipe.finetune.steps}, and the recipe says 7"
    assert fingerprints.altered(change(recipe, "finetune", steps=7), records) == steps
    assert "'evaluate' was made with seed 0" in fingerprints.altered(
        recipe.model_copy(update={"seed": 5}), {"evaluate": records["evaluate"]}
    )
    options = change(recipe, "finetune", options={"decoder_width": 8})
    assert "options.decoder_width 32, and the recipe says 8" in fingerprints.altered(options, records)


def test_detectors_beside_each_other_have_names_where_the_folder_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    both = Recipe.model_validate(
        {"name": "r", "data": {"source": "synthetic", "root": "x"}, "finetune": {}, "anomaly": {"detector": "knn"}}
    )
    folders = [folder for _, folder in pipeline.runs_of(both, Path("."))]
    assert folders == [Path("."), tmp_path.with_name(f"{tmp_path.name}-anomaly")]
    assert [folder for _, folder in pipeline.runs_of(both, Path("reports/r"))][1] == Path("reports/r-anomaly")


def test_force_runs_what_is_fresh(fake, recipe: Recipe, tmp_path: Path) -> None:
    pipeline.run(recipe, tmp_path / "runs" / "a")
    assert pipeline.run(recipe, tmp_path / "runs" / "a", "evaluate", force=True)["evaluate"] == "ran"


@pytest.mark.parametrize(("first", "last"), [("report", "prepare"), ("train", "report"), ("prepare", "finetun")])
def test_wrong_stages_are_said_so(recipe: Recipe, tmp_path: Path, first: str, last: str) -> None:
    with pytest.raises(UserError, match=r"order is|accepted: prepare"):
        pipeline.run(recipe, tmp_path / "a", first, last)


def test_two_runs_in_one_folder_the_second_is_refused(fake, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "a"
    out.mkdir()
    lock = f"lock = FileLock({str(out / '.lock')!r}); lock.acquire()"
    hold = f"import time; from filelock import FileLock; {lock}; print('held', flush=True); time.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another ssl-defect process"):
            pipeline.run(recipe, out)
        other.kill()
    assert not (out / "prepare").exists()


def test_a_read_only_folder_is_said_so(fake, recipe: Recipe, tmp_path: Path) -> None:
    """In a child that gives up its rights, since root may write anywhere."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    pipeline.options(recipe)  # everything is imported before the rights are gone
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setuid(65534)
            pipeline.run(recipe, closed / "a")
        except UserError as error:
            os._exit(0 if "give a folder that you may write" in str(error) else 3)
        except BaseException:
            os._exit(4)
        os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_file_in_the_way_is_said_so(fake, recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="give a folder that you may write"):
        pipeline.run(recipe, tmp_path / "file")


def test_a_name_that_no_system_takes_is_said_so(fake, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give a folder that you may write"):
        pipeline.run(recipe, tmp_path / ("x" * 300))


def test_no_run_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run"):
        pipeline.status(tmp_path)


def test_a_finished_run_has_a_record_for_every_stage(fake, recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    pipeline.run(recipe, out)
    for name in fingerprints.STAGES:
        record = artifacts.read_record(out / name)
        assert record is not None
        assert record.stage == name
        assert record.versions["python"]
        assert record.machine["cores"] >= 1
