"""Runs as tasks of a Ray cluster: its local mode, one core, with runs that only pretend."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pretended import begun, job, pretend  # noqa: F401 - a fixture

from ssl_defect.config import ComputeSettings
from ssl_defect.errors import UserError
from ssl_defect.table import cluster as clusters
from ssl_defect.table import work as working
from ssl_defect.table.cluster import Cluster, cluster
from ssl_defect.table.planning import read_work
from ssl_defect.table.work import work_off


@pytest.fixture(scope="module")
def ray_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One for all tests: starting it takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        ray: Any = pytest.importorskip("ray", reason="the extra `ray` is not installed")
        ray.init(
            num_cpus=1,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            object_store_memory=clusters.SMALLEST_STORE,
        )
        try:
            with cluster("local") as joined:
                yield joined
            assert ray.is_initialized()  # the block ends what it began, nothing else
        finally:
            ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("pretend")
def test_tasks_share_stages_fail_and_go_on_as_processes_do(ray_here: Cluster, tmp_path: Path) -> None:
    bad: dict[str, Any] = {"pretrain": {"fail": "no good images"}}
    jobs = [job(tmp_path, "none", 0), job(tmp_path, "mae", 0, **bad), job(tmp_path, "mae", 1, **bad)]
    jobs.append(job(tmp_path, "moco", 0, finetune={"kill": True}))
    work = read_work(tmp_path)
    assert ray_here.places(work) == 1
    failed = work_off(jobs, tmp_path, work, 2, ray_here)
    assert failed["mae-seed0"] == "no good images"
    assert failed["mae-seed1"] == "needs what failed in mae-seed0: no good images"
    assert failed["moco-seed0"].startswith("killed by signal 9 (out of memory?)")
    assert set(failed) == {"mae-seed0", "mae-seed1", "moco-seed0"}
    assert jobs[0].finished
    assert "threads: 1" in (jobs[0].folder / "recipe.yaml").read_text()
    plan = json.loads((jobs[1].folder / "plan.json").read_text())
    (jobs[1].folder / "plan.json").write_text(json.dumps([[a, b, {}, d] for a, b, _, d in plan]))
    assert work_off(jobs[:2], tmp_path, read_work(tmp_path), 2, ray_here) == {}
    assert begun(tmp_path).count(jobs[0].stages[0].fingerprint) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("pretend")
def test_an_interrupted_table_ends_its_tasks(
    ray_here: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = job(tmp_path, "mae", 0, 60.0)

    def interrupt(seconds: float) -> None:
        if begun(tmp_path):  # not by its lock: to try it while the task takes it turns the task away
            raise KeyboardInterrupt
        time.sleep(seconds)

    monkeypatch.setattr(working, "time", SimpleNamespace(sleep=interrupt, monotonic=time.monotonic))
    with pytest.raises(KeyboardInterrupt):
        work_off([one], tmp_path, read_work(tmp_path), 1, ray_here)
    end = time.monotonic() + 30
    while working._busy(one.folder) and time.monotonic() < end:
        time.sleep(0.05)
    assert not working._busy(one.folder)


@pytest.mark.slow
def test_more_cores_than_any_machine_has(ray_here: Cluster, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"compute.threads: 8 is more than any machine .* take 1 or less"):
        ray_here.start([], tmp_path, {}, ComputeSettings(threads=8))


def test_a_folder_that_is_not_shared_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not on this machine of the cluster; the folder of the command"):
        clusters._work(["python", "-V"], str(tmp_path / "elsewhere"), str(tmp_path), {})


def test_a_task_can_be_interrupted_where_its_parents_ignored_that(tmp_path: Path) -> None:
    """As what a shell starts in the background does."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert clusters._work(["python", "-c", "pass"], str(tmp_path), str(tmp_path), {}) == 0
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


class Lost:
    """Stands in for Ray: a task whose machine was lost."""

    def wait(self, references: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return references, []

    def get(self, reference: Any) -> int:
        raise RuntimeError("the machine went away\nwith much to tell")


def test_a_lost_machine_is_a_failed_run_with_its_reason(tmp_path: Path) -> None:
    task = clusters._Task(Lost(), "reference", tmp_path)
    assert task.poll() == task.poll() == task.wait() == 1
    assert working.reason_of(tmp_path, 1, 0) == "Ray: the machine went away"
    assert (tmp_path / "log.txt").read_text().count("\n") == 1


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"--ray: Ray is not installed; run: pip install 'ssl-defect\[ray\]'"):
        cluster("local").__enter__()


def test_an_address_where_no_cluster_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nMore.")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=refuse))
    with pytest.raises(UserError, match=r"--ray auto: Could not find any running Ray instance.; give local, auto, or"):
        cluster("auto").__enter__()
