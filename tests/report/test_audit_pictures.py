"""The audit's pictures and the protocol's digests: what is there is shown, and what is not is not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fabricated_run import Fake, build
from read_page import Page

from ssl_defect.artifacts import digest
from ssl_defect.report import oddities, protocol
from ssl_defect.report.mistakes import section as mistakes
from ssl_defect.report.records import RunRecords, read_run
from ssl_defect.report.stage import render


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> RunRecords:
    run = tmp_path_factory.mktemp("run")
    return read_run(build(run, Fake(split="random")), run)


def with_samples(records: RunRecords, **changed: dict[int, object]) -> RunRecords:
    samples = list(records.store.samples)
    for key, values in changed.items():
        for row, value in values.items():
            samples[row] = replace(samples[row], **{key: value})
    return replace(records, store=replace(records.store, samples=samples))


@pytest.fixture
def leaking(records: RunRecords) -> RunRecords:
    """Rows 0 and 2 of test have near-copies in training."""
    return with_samples(records, group={0: 2, 2: 5})


def test_a_leak_is_a_test_image_beside_its_copy_in_training(leaking: RunRecords) -> None:
    found = [(strip["group"], [shot.file for shot in strip["shots"]]) for strip in oddities.leaks(leaking)]
    images = [one.image for one in leaking.store.samples]
    assert found == [(2, [images[0], images[4]]), (5, [images[2], images[10]])]


def test_a_split_by_group_leaks_nothing(leaking: RunRecords) -> None:
    audit = leaking.audit | {"leak": {"this_split_share": 0.0}}
    assert oddities.leaks(replace(leaking, audit=audit)) == []


def test_empty_masks_and_odd_formats_are_pictured_where_they_were_kept(records: RunRecords) -> None:
    kept = records.store.samples[5].image
    audit = records.audit | {"empty_masks": ["gone.png", kept]}
    assert [shot.file for shot in oddities.empty_masks(replace(records, audit=audit))] == [kept]
    (odd,) = oddities.odd(records)
    assert (odd.file, odd.title) == ("part/0001.png", "16-bit grey, scaled to 8 bits")


def test_the_extremes_of_size_and_shape(records: RunRecords) -> None:
    assert oddities.sizes(records) == []  # all are of one size
    found = with_samples(records, width={3: 640, 7: 10}, height={3: 320, 7: 100})
    assert [(shot.file, shot.title) for shot in oddities.sizes(found)] == [
        ("part/0007.png", "smallest, narrowest: 10 x 100"),
        ("part/0003.png", "largest: 640 x 320"),
        ("part/0000.png", "widest: 64 x 32"),
    ]
    same_shape = with_samples(records, width={3: 640}, height={3: 320})
    assert [shot.title for shot in oddities.sizes(same_shape)] == ["smallest: 64 x 32", "largest: 640 x 320"]


def test_every_split_has_its_digest(records: RunRecords) -> None:
    found = {row["name"]: row for row in protocol.splits(records)}
    names = sorted(one.image for one in records.store.samples if one.split == "test")
    assert found["test"] == {"name": "test", "images": str(len(names)), "digest": digest(names)}
    moved = with_samples(records, split={0: "train"})
    changed = {row["name"]: row["digest"] for row in protocol.splits(moved)}
    assert {name for name in found if changed[name] != found[name]["digest"]} == {"train", "test"}


def test_the_page_has_them_all(leaking: RunRecords) -> None:
    made = leaking.stages["prepare"]
    assert made is not None
    stages = leaking.stages | {"prepare": replace(made, inputs={"pictures": "6b5066b9d437b303"})}
    page = Page(render(replace(leaking, stages=stages)))
    assert "6b5066b9d437b303" in page.text
    assert 'data-test-strips="leaks"' in page.html
    assert 'data-test-strip="Unusual formats, as converted"' in page.html
    for name in ("Raw pictures digest", "Split digest", "Fingerprint", "Memory at most", "Seeds", "Mask rule"):
        assert name in page.text
    assert 'data-test-strips="leaks"' not in render(replace(leaking, audit=leaking.audit | {"leak": {}}))


@pytest.mark.parametrize(("task", "why"), [("anomaly", "no logit to follow back"), ("classical", "no encoder")])
def test_why_nothing_is_explained(tmp_path: Path, task: str, why: str) -> None:
    found = read_run(build(tmp_path, Fake(gradcam=0)), tmp_path)
    found.metrics["protocol"]["task"] = task
    assert why in mistakes(found)["unexplained"]
