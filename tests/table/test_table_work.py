"""Runs worked off side by side by processes that only pretend: order, sharing, failures, kills and estimates."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pretended import HERE, begun, diary, job, pretend  # noqa: F401 - a fixture

from ssl_defect.errors import UserError
from ssl_defect.table import machine
from ssl_defect.table import work as working
from ssl_defect.table.planning import Job, Work, estimate, overview, read_work, to_do
from ssl_defect.table.work import reason_of, work_off

pytestmark = pytest.mark.usefixtures("pretend")


def test_every_stage_is_made_once_and_never_by_two_at_a_time(tmp_path: Path) -> None:
    jobs = [job(tmp_path, method, seed, 0.05) for seed in (0, 1) for method in ("none", "mae", "moco")]
    assert work_off(jobs, tmp_path, read_work(tmp_path), 3) == {}
    assert all(one.finished for one in jobs)
    wanted = {stage.fingerprint for one in jobs for stage in one.stages}
    assert sorted(begun(tmp_path)) == sorted(wanted)
    assert len(wanted) == 1 + 3 + 6 + 6
    assert work_off(jobs, tmp_path, read_work(tmp_path), 3) == {}
    assert len(begun(tmp_path)) == 16


def test_a_failed_run_is_said_and_the_others_go_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bad: dict[str, Any] = {"pretrain": {"fail": "no good images"}}
    jobs = [job(tmp_path, "mae", 0, **bad), job(tmp_path, "mae", 1, **bad), job(tmp_path, "none", 0)]
    jobs.append(job(tmp_path, "moco", 0, finetune={"kill": True}))
    failed = work_off(jobs, tmp_path, read_work(tmp_path), 2)
    assert failed["mae-seed0"] == "no good images"
    assert failed["mae-seed1"] == "needs what failed in mae-seed0: no good images"
    assert failed["moco-seed0"].startswith("killed by signal 9 (out of memory?)")
    assert set(failed) == {"mae-seed0", "mae-seed1", "moco-seed0"}
    assert jobs[2].finished
    assert begun(tmp_path).count(jobs[0].stages[1].fingerprint) == 1
    assert "[4/4]" in capfd.readouterr().err
    for one in jobs:  # mended, it goes on where it was
        plan = json.loads((one.folder / "plan.json").read_text())
        (one.folder / "plan.json").write_text(json.dumps([[a, b, {}, d] for a, b, _, d in plan]))
    assert work_off(jobs, tmp_path, read_work(tmp_path), 2) == {}
    assert begun(tmp_path).count(jobs[0].stages[0].fingerprint) == 1


TABLE = """
import sys
from pathlib import Path
import pretended as tests
from ssl_defect.table import work
from ssl_defect.table.planning import read_work
out = Path(sys.argv[1])
work.command_of = lambda folder, last: [sys.executable, str(tests.HERE / "pretend_run.py"), str(folder)]
work.work_off([tests.job(out, "mae", seed, 2.0) for seed in (0, 1)], out, read_work(out), 2)
"""


def ended_at_work(out: Path, how: signal.Signals) -> int:
    """The exit code of a table of two runs that was sent a signal when its first had begun."""
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    with subprocess.Popen([sys.executable, "-c", TABLE, str(out)], env=environment) as table:
        end = time.monotonic() + 120
        while not diary(out) and time.monotonic() < end:
            time.sleep(0.02)
        table.send_signal(how)
        return table.wait()


def test_a_killed_table_goes_on_and_waits_for_what_outlived_it(tmp_path: Path) -> None:
    ended_at_work(tmp_path, signal.SIGKILL)
    assert len(begun(tmp_path)) == 1  # its child is still at work on the preparation
    jobs = [job(tmp_path, "mae", seed) for seed in (0, 1)]
    assert work_off(jobs, tmp_path, read_work(tmp_path), 2) == {}
    assert all(one.finished for one in jobs)
    assert sorted(begun(tmp_path)) == sorted({stage.fingerprint for one in jobs for stage in one.stages})


def test_a_table_that_is_told_to_end_ends_its_processes(tmp_path: Path) -> None:
    assert ended_at_work(tmp_path, signal.SIGTERM) != 0
    assert len(begun(tmp_path)) == 1
    assert not any(working._busy(tmp_path / f"mae-seed{seed}") for seed in (0, 1))
    assert not [line for line in diary(tmp_path) if line.startswith("end")]


def test_an_interrupted_table_ends_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    real = working._start
    monkeypatch.setattr(working, "_start", lambda *a: started.append(real(*a)) or started[-1])

    def interrupt(seconds: float) -> None:
        if started:
            raise KeyboardInterrupt

    monkeypatch.setattr(working.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        work_off([job(tmp_path, "mae", 0, 60.0)], tmp_path, read_work(tmp_path), 1)
    assert [process.returncode for process in started] == [-signal.SIGTERM]


def test_two_tables_in_one_folder_the_second_is_refused(tmp_path: Path) -> None:
    with working._alone(tmp_path), pytest.raises(UserError, match="another table works in this folder"):
        work_off([job(tmp_path, "mae", 0)], tmp_path, read_work(tmp_path), 1)


def test_a_run_whose_pictures_are_missing_has_its_reason(tmp_path: Path) -> None:
    missing = Job(job(tmp_path, "mae", 0).run, tmp_path / "mae-seed0", (), "no pictures")
    assert work_off([missing], tmp_path, read_work(tmp_path), 1) == {"mae-seed0": "no pictures"}
    assert "cannot run: no pictures" in overview([missing], read_work(tmp_path), 1)[0]


def test_the_overview_tells_what_runs_and_how_long(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "mae", seed, 0.0) for seed in (0, 1)]
    lines = overview(jobs, read_work(tmp_path), 1)
    assert lines[0].endswith("prepare runs, pretrain runs, finetune runs, evaluate runs")
    assert "prepare shared with mae-seed0, pretrain shared with mae-seed0, finetune runs" in lines[1]
    assert lines[2:] == [
        "2 runs, 0 finished; stages to make: prepare 1, pretrain 1, finetune 2, evaluate 2",
        "time with 1 side by side: unknown; --estimate tries it",
    ]
    work_off(jobs[:1], tmp_path, read_work(tmp_path), 1)
    for stage, seconds in (("finetune", 60.0), ("evaluate", 30.0)):
        path = tmp_path / "mae-seed0" / stage / "record.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": seconds}))
    work = read_work(tmp_path)
    assert "finished" in overview(jobs, work, 1)[0]
    assert "prepare cached, pretrain cached, finetune runs" in overview(jobs, work, 1)[1]
    left = [stage for _, stage in to_do(jobs, work).values()]
    assert estimate(left, work, 1) == "about 1:30"
    assert estimate(left, work, 8) == "about 1:00"  # the longest stage alone
    assert overview(jobs, work, 1)[-1] == "time with 1 side by side: about 1:30"  # the first seed is there
    more = [job(tmp_path, "mae", seed, 0.0) for seed in (1, 2)]
    assert overview(more, work, 1)[-1] == "time with 1 side by side: about 3:00, a first answer after about 1:30"
    other = [stage for _, stage in to_do([job(tmp_path, "moco", 0)], work).values()]
    assert estimate(other, work, 1) == "at least 1:30 (1 of 3 stages unknown)"  # no pretraining by moco yet
    assert estimate([*left, *other], work, 1) == "at least 3:00 (1 of 5 stages unknown)"
    assert estimate([], work, 1) == "nothing"


def test_memory_bounds_the_runs_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    work = read_work(tmp_path)
    for free, peak, wanted in ((64_000, 0, 8), (6_400, 0, 4), (6_400, 3_000, 2), (500, 0, 1), (float("inf"), 0, 8)):
        monkeypatch.setattr(machine, "free_mb", lambda free=free: free)
        work.peak_mb = peak
        assert machine.ThisMachine().places(work) == wanted
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert machine.ThisMachine().places(work) == 1


def test_processes_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 8)
    seen = "import os; print(os.environ['OMP_NUM_THREADS'])"
    monkeypatch.setattr(working, "command_of", lambda folder, last: [sys.executable, "-c", seen])
    one = job(tmp_path, "mae", 0)
    assert working._start(working.Crew(Work(), 3, []), one).wait() == 0
    assert (one.folder / "log.txt").read_text() == "2\n"
    assert "threads: 2" in (one.folder / "recipe.yaml").read_text()


def test_a_stage_that_lost_a_file_is_made_by_one_run_alone(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "mae", seed) for seed in (0, 1)]
    assert work_off(jobs[:1], tmp_path, read_work(tmp_path), 1) == {}
    record = jobs[0].folder / "pretrain" / "record.json"
    assert jobs[0].stages[1].fingerprint in read_work(tmp_path).done
    record.write_text(json.dumps(json.loads(record.read_text()) | {"outputs": {"encoder.safetensors": [9, "ab"]}}))
    work = read_work(tmp_path)
    assert jobs[0].stages[1].fingerprint not in work.done
    crew = working.Crew(work, 2, [])
    crew.active[jobs[0].name] = (jobs[0], None)
    assert not working._may_start(crew, jobs[1])


def test_the_reason_is_the_last_line_of_the_log(tmp_path: Path) -> None:
    assert reason_of(tmp_path, 1, 0) == "it said nothing"
    (tmp_path / "log.txt").write_text("begun\nerror: disk full\n\n")
    assert reason_of(tmp_path, 1, 0) == "disk full"
    assert reason_of(tmp_path, -15, 0) == "killed by signal 15; last said: disk full"
    assert "code changed" in reason_of(tmp_path, 0, 0)


def test_a_run_that_fails_again_does_not_repeat_an_earlier_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    monkeypatch.setattr(working, "command_of", lambda folder, last: [sys.executable, "-c", silent])
    one = job(tmp_path, "mae", 0)
    (one.folder / "log.txt").write_text("error: the disk is full\n")
    failed = work_off([one], tmp_path, read_work(tmp_path), 1)
    assert failed == {one.name: "killed by signal 9 (out of memory?); it said nothing"}


def test_while_runs_are_at_work_those_that_wait_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table looks four times a second, for hours, beside the runs that need the cores."""
    crew = working.Crew(Work(), 1, [job(tmp_path, "mae", seed, 60.0) for seed in range(40)])
    working._step(crew)
    (process,) = [process for _, process in crew.active.values()]
    assert process is not None
    monkeypatch.setattr(Job, "finished", property(lambda self: pytest.fail(f"{self.name} is read again")))
    monkeypatch.setattr("ssl_defect.fingerprints.digest", lambda _: pytest.fail("a fingerprint is made again"))
    try:
        working._step(crew)
    finally:
        process.terminate()
        process.wait()


def test_pretrainings_come_first_of_a_seed_and_seeds_one_after_the_other(tmp_path: Path) -> None:
    few = [job(tmp_path, method, seed) for seed in (0, 1) for method in ("mae", "moco")]
    jobs = []  # each with few labels, then with more: these share its pretraining
    for one in few:
        learnt = replace(one.stages[2], settings=one.stages[2].settings | {"labels": 10})
        run = replace(one.run, name=f"{one.name}-more")
        jobs += [one, Job(run, tmp_path / run.name, (*one.stages[:2], learnt))]
    pretraining = ["mae-seed0", "moco-seed0"]
    others = ["mae-seed0-more", "moco-seed0-more", "mae-seed1", "mae-seed1-more", "moco-seed1", "moco-seed1-more"]
    assert [one.name for one in working._in_order(jobs, read_work(tmp_path))] == [*pretraining, *others]
    work = read_work(tmp_path)
    work.done |= {few[0].stages[1].fingerprint}  # what is pretrained already waits its turn
    order = ["moco-seed0", "mae-seed0", "mae-seed0-more", "moco-seed0-more"]
    assert [one.name for one in working._in_order(jobs, work)][:4] == order
