"""The chain through the command line, as a person runs it, on drawn parts."""

from __future__ import annotations

import csv
import hashlib
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from forks import Forked, run

PROMISED = [
    "prepare/samples.csv",
    "prepare/audit.json",
    "pretrain/encoder.safetensors",
    "finetune/model.safetensors",
    "evaluate/metrics.json",
    "evaluate/predictions.csv",
    "report/index.html",
]
STAGES = ["prepare", "pretrain", "finetune", "evaluate", "report"]
HOSTILE = "<img src=x onerror=alert(1)>.png"


def write_recipe(folder: Path, **sections: object) -> Path:
    raw = {
        "name": "small",
        "data": {"source": "mvtec", "root": "parts", "image_size": 48, "val_share": 0.2, "test_share": 0.3},
        "model": {"backbone": "test_resnet"},
        "pretrain": {"method": "simclr", "epochs": 3, "batch_size": 16},
        "finetune": {
            "task": "segmentation",
            "labels_per_class": 4,
            "steps": 12,
            "batch_size": 8,
            "eval_every": 4,
            "options": {"decoder_width": 8},
        },
        "evaluate": {"embeddings": False, "gradcam": 2, "bootstrap": 100},
        "compute": {"threads": 1, "device": "cpu"},
        **sections,
    }
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with drawn parts, one picture cut short and one with HTML for a name."""
    from ssl_defect.data.sources import synthetic

    folder = tmp_path_factory.mktemp("place")
    options = synthetic.Options(good=40, defective=16, classes=["scratch", "spot"], size=64)
    synthetic.scan(folder / "parts", options)
    good = sorted((folder / "parts" / "train" / "good").glob("*.png"))
    good[0].write_bytes(good[0].read_bytes()[:200])
    good[1].rename(good[1].with_name(HOSTILE))
    write_recipe(folder)
    return folder


@pytest.fixture(scope="module")
def finished(place: Path) -> Path:
    command = [sys.executable, "-m", "ssl_defect.cli", "run", "small.yaml"]  # all else is forked
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "report: reports/small/report/index.html\n"
    return place / "reports" / "small"


@pytest.mark.slow
def test_a_run_keeps_its_promises(finished: Path) -> None:
    for name in PROMISED:
        assert (finished / name).stat().st_size > 0
    with (finished / "prepare" / "samples.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {"image", "mask", "label", "defect", "group", "split"} <= set(rows[0])
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    assert len(rows) == 40 + 2 * 16 - 1  # the one cut short is set aside
    assert sorted(path.name for path in finished.iterdir() if not path.name.startswith(".")) == sorted(
        [*STAGES, "recipe.yaml", "test_opened.json"]
    )


@pytest.mark.slow
def test_names_with_html_stay_text(finished: Path) -> None:
    assert HOSTILE in (finished / "prepare" / "samples.csv").read_text(encoding="utf-8")
    assert "<img src=x" not in (finished / "report" / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_status_and_a_second_run_see_that_all_is_fresh(finished: Path, place: Path) -> None:
    rows = run("status", finished, cwd=place).stdout.splitlines()
    assert [row.split()[:2] for row in rows] == [[name, "done"] for name in STAGES]
    again = run("run", "small.yaml", cwd=place)
    assert again.stderr.count("fresh, skipped") == 5


@pytest.mark.slow
def test_the_same_records_give_the_same_page(finished: Path, place: Path) -> None:
    page = finished / "report" / "index.html"
    before = page.read_bytes()
    done = run("report", "small.yaml", "--force", cwd=place)
    assert done.returncode == 0, done.stderr
    assert page.read_bytes() == before


@pytest.mark.slow
def test_predict_needs_the_run_alone(finished: Path, place: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    for name in ("finetune", "evaluate"):
        shutil.copytree(finished / name, moved / name)
    shutil.copy(finished / "recipe.yaml", moved)
    new = tmp_path / "new"
    shutil.copytree(place / "parts" / "test" / "scratch", new)
    done = run("predict", moved, new, "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    assert {row["verdict"] for row in rows} <= {"good", "defective"}
    assert all((tmp_path / "out" / row["overlay"]).is_file() for row in rows)


def digests(run: Path) -> list[str]:
    files = (run / "pretrain" / "encoder.safetensors", run / "finetune" / "model.safetensors")
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


@pytest.mark.slow
@pytest.mark.parametrize("sign", ["epoch 1/", "epoch 2/", "step 4/", "step 8/"])
def test_a_killed_run_ends_with_the_same_weights(finished: Path, place: Path, tmp_path: Path, sign: str) -> None:
    out = tmp_path / "runs" / "killed"
    arguments = ["run", "small.yaml", "--to", "finetune", "--out", out]
    with Forked(*arguments, cwd=place) as forked:
        assert any(sign in line for line in forked.errors())
        forked.kill()
        assert forked.returncode == -signal.SIGKILL
    done = run(*arguments, cwd=place)
    assert done.returncode == 0, done.stderr
    assert digests(out) == digests(finished)


def only_small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_loses_nothing(place: Path, tmp_path: Path) -> None:
    """A limit on the size of files: the system refuses to write just as on a full disk."""
    out = tmp_path / "runs" / "full"
    arguments = ["run", "small.yaml", "--to", "pretrain", "model.backbone=resnet18", "--out", out]
    done = run(*arguments, cwd=place, before=only_small_files)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "no space left" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert (out / "prepare" / "samples.csv").is_file()
    again = run(*arguments, cwd=place)
    assert again.returncode == 0, again.stderr
    assert "prepare: fresh" in again.stderr


@pytest.mark.slow
def test_an_encoder_of_another_backbone_is_refused(finished: Path, place: Path, tmp_path: Path) -> None:
    start = f"pretrain.start={finished / 'pretrain' / 'encoder.safetensors'}"
    done = run("run", "small.yaml", start, "model.backbone=resnet18", "--out", tmp_path / "r" / "a", cwd=place)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "test_resnet" in last
    assert "resnet18" in last


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["pretrain.epoch=3"], "pretrain.epoch: unknown key"),
        (["data.root=nowhere"], "nowhere"),
        (["pretrain.method=simclrr"], "did you mean 'simclr'?"),
        (["model.backbone=resnet19"], "resnet18"),
    ],
)
def test_a_mistake_is_one_line_and_a_non_zero_exit(
    place: Path, tmp_path: Path, settings: list[str], expected: str
) -> None:
    done = run("run", "small.yaml", *settings, "--out", tmp_path / "r" / "a", cwd=place)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert expected in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_an_empty_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    write_recipe(tmp_path)
    done = run("prepare", "small.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


def test_the_lists_have_a_line_each(tmp_path: Path) -> None:
    from ssl_defect.data.sources import SOURCES
    from ssl_defect.finetune import CLASSICAL, TASKS
    from ssl_defect.nets.anomaly import DETECTORS
    from ssl_defect.pretrain import METHODS

    lists = {"methods": METHODS, "tasks": TASKS | CLASSICAL, "detectors": DETECTORS, "datasets": SOURCES}
    for name, table in lists.items():
        lines = run(name, cwd=tmp_path).stdout.splitlines()
        assert [line.split()[0] for line in lines] == list(table)


def test_the_schema_knows_the_options_of_a_method(tmp_path: Path) -> None:
    schema = yaml.safe_load(run("schema", cwd=tmp_path).stdout)
    methods = schema["$defs"]["PretrainSettings"]["allOf"]
    simclr = next(each for each in methods if each["if"]["properties"]["method"]["const"] == "simclr")
    assert "temperature" in simclr["then"]["properties"]["options"]["properties"]
    assert schema["$defs"]["DataSettings"]["properties"]["source"]["enum"]


@pytest.mark.slow
def test_the_wheel_runs_outside_the_checkout(tmp_path: Path) -> None:
    checkout = Path(__file__).resolve().parents[1]
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(checkout)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    code = "import ssl_defect.report.stage as s; print(s.__file__); print(s.template_digest()); import ssl_defect.cli"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
    )
    from ssl_defect.report.stage import template_digest

    lines = done.stdout.splitlines()
    assert lines[0].startswith(str(target))
    assert lines[1] == template_digest()
