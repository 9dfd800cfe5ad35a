"""Folds: every image is tested once, no group is split, each class is spread evenly."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from ssl_defect.config import DataSettings, Recipe, validate
from ssl_defect.data.records import Sample
from ssl_defect.data.splits import split_samples
from ssl_defect.errors import UserError

CLASSES = ["good", "crack", "spot"]


def settings(folds: int, fold: int = 0, seed: int = 0, **more: object) -> DataSettings:
    raw = {"source": "folder", "root": ".", "val_share": 0.2, "folds": folds, "fold": fold, "split_seed": seed, **more}
    return DataSettings.model_validate(raw)


def make(classes: list[str], groups: list[int]) -> list[Sample]:
    return [
        Sample(image=f"{i:04d}.png", defect=name, label=int(name != "good"), group=group)
        for i, (name, group) in enumerate(zip(classes, groups, strict=True))
    ]


@st.composite
def sets(draw: st.DrawFn) -> list[Sample]:
    """Up to 80 images of three classes in groups of any size, some of them mixed, each class with 12 lone images."""
    groups = draw(st.lists(st.integers(0, 15), max_size=44))
    classes = draw(st.lists(st.sampled_from(CLASSES), min_size=len(groups), max_size=len(groups)))
    return make(classes + CLASSES * 12, [*groups, *([-1] * 36)])


@given(sets(), st.integers(2, 6), st.integers(0, 3))
def test_every_image_is_tested_once_and_no_group_is_split(samples: list[Sample], folds: int, seed: int) -> None:
    tested: Counter[str] = Counter()
    home = {}
    for fold in range(folds):
        done = split_samples(samples, settings(folds, fold, seed))
        assert [replace(sample, split="") for sample in done] == samples
        splits = defaultdict(set)
        for sample in done:
            splits[sample.group if sample.group >= 0 else sample.image].add(sample.split)
            if sample.split == "test":
                home[sample.image] = fold
        assert all(len(found) == 1 for found in splits.values())
        tested.update(sample.image for sample in done if sample.split == "test")
        found = Counter((sample.defect, sample.split) for sample in done)
        assert set(found) == {(name, split) for name in CLASSES for split in ("train", "val", "test")}
    assert tested == Counter(sample.image for sample in samples)
    # a class differs between two folds by no more than its largest group (mixed groups count for several classes)
    for name in CLASSES:
        counts = Counter(home[sample.image] for sample in samples if sample.defect == name)
        sizes = Counter(sample.group for sample in samples if sample.group >= 0)
        assert max(counts.values()) - min(counts[fold] for fold in range(folds)) <= max([2, *sizes.values()])


def test_shares_are_exact_where_every_image_stands_alone() -> None:
    samples = make(["good"] * 100 + ["crack"] * 20 + ["spot"] * 10, [-1] * 130)
    for fold in range(5):
        found = Counter((s.defect, s.split) for s in split_samples(samples, settings(5, fold)))
        expected = {"good": (60, 20, 20), "crack": (12, 4, 4), "spot": (6, 2, 2)}
        assert found == {
            (n, s): k for n, row in expected.items() for s, k in zip(("train", "val", "test"), row, strict=True)
        }


def imbalance(samples: list[Sample], fold_of: dict[str, int], folds: int) -> float:
    """Chi-square distance of the folds' classes from equal shares."""
    total, have = Counter(s.defect for s in samples), Counter((s.defect, fold_of[s.image]) for s in samples)
    return sum((have[n, k] - total[n] / folds) ** 2 / (total[n] / folds) for n in total for k in range(folds))


def test_small_sets_are_balanced_at_least_as_well_as_by_scikit_learn() -> None:
    """Thirty sets of 72 images in groups of one to six, a third of the images of another class than their group."""
    ours, theirs = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        groups = np.repeat(np.arange(60), rng.integers(1, 7, 60))[:60].tolist() + list(range(60, 72))
        names = rng.choice(CLASSES, 60, p=[0.6, 0.25, 0.15]).tolist()
        classes = [names[g] if rng.random() > 0.3 else str(rng.choice(CLASSES)) for g in groups[:60]]
        samples = make(classes + CLASSES * 4, groups)
        tested = {s.image: k for k in range(4) for s in split_samples(samples, settings(4, k)) if s.split == "test"}
        splitter = StratifiedGroupKFold(4, shuffle=True, random_state=seed)
        parts = splitter.split(groups, [s.defect for s in samples], groups)
        held = {samples[row].image: k for k, (_, rows) in enumerate(parts) for row in rows}
        ours.append(imbalance(samples, tested, 4))
        theirs.append(imbalance(samples, held, 4))
    assert np.mean(ours) < np.mean(theirs)


def test_folds_depend_on_names_and_seed_not_on_order() -> None:
    samples = make(["good"] * 30 + ["crack"] * 12, [i // 2 for i in range(42)])
    first = {s.image: s.split for s in split_samples(samples, settings(3, 1))}
    assert first == {s.image: s.split for s in split_samples(samples[::-1], settings(3, 1))}
    assert first != {s.image: s.split for s in split_samples(samples, settings(3, 1, seed=1))}


def test_more_folds_than_groups_of_a_class_is_one_line() -> None:
    samples = make(["good"] * 20 + ["crack"] * 12, [-1] * 20 + [0, 1, 2, 3] * 3)
    with pytest.raises(UserError, match=r"5 folds need at least 5 near-copy groups .* 'crack' has 4; take at most 4"):
        split_samples(samples, settings(5))
    assert len(split_samples(samples, settings(4))) == 32
    assert len(split_samples(samples, settings(5, split="random"))) == 32
    few = make(["good"] * 20 + ["crack"] * 2, [-1] * 22)
    with pytest.raises(UserError, match=r"at least 3 near-copy groups .* 'crack' has 2; take no folds"):
        split_samples(few, settings(2))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"folds": 1}, "folds must be at least 2"),
        ({"folds": 3, "fold": 3}, r"fold must be below folds \(3\), got 3"),
        ({"fold": 1}, "fold must be below folds"),
        ({"folds": 3, "protocol": "official"}, "protocol must be supervised"),
        ({"folds": 2, "val_share": 0.5}, "must stay below 0.95"),
    ],
)
def test_folds_that_do_not_fit_are_refused(more: dict[str, object], expected: str) -> None:
    raw = {"name": "x", "data": {"source": "folder", "root": ".", **more}}
    with pytest.raises(UserError, match=expected):
        validate(Recipe, raw, "x.yaml")
