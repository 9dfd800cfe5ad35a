"""Splits: a partition by group, close to its shares, fixed by seed and file names alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssl_defect.config import DataSettings
from ssl_defect.data.records import Sample
from ssl_defect.data.splits import label_budget, leak_share, split_digest, split_samples
from ssl_defect.errors import UserError

SETTINGS = DataSettings(source="folder", root=".", val_share=0.2, test_share=0.3)
CLASSES = ["good", "crack", "spot"]


def make(classes: list[str], groups: list[int], published: str = "") -> list[Sample]:
    return [
        Sample(image=f"{i:04d}.png", defect=name, label=int(name != "good"), group=group, published_split=published)
        for i, (name, group) in enumerate(zip(classes, groups, strict=True))
    ]


@st.composite
def sets(draw: st.DrawFn) -> list[Sample]:
    """Up to 80 images of three classes in groups of any size, some of them mixed, each class with 9 lone images."""
    groups = draw(st.lists(st.integers(0, 15), max_size=50))
    classes = draw(st.lists(st.sampled_from(CLASSES), min_size=len(groups), max_size=len(groups)))
    return make(classes + CLASSES * 9, [*groups, *([-1] * 27)])


def split_of(samples: list[Sample]) -> dict[str, str]:
    return {sample.image: sample.split for sample in samples}


@given(sets(), st.integers(0, 5))
def test_supervised_split_is_a_partition_that_no_group_spans_and_every_class_reaches(
    samples: list[Sample], seed: int
) -> None:
    done = split_samples(samples, SETTINGS.model_copy(update={"split_seed": seed}))
    assert [replace(sample, split="") for sample in done] == samples
    splits_of_group: dict[int, set[str]] = {}
    for sample in done:
        if sample.group >= 0:
            splits_of_group.setdefault(sample.group, set()).add(sample.split)
    assert all(len(splits) == 1 for splits in splits_of_group.values())
    found = Counter((sample.defect, sample.split) for sample in done)
    assert set(found) == {(name, split) for name in CLASSES for split in ("train", "val", "test")}


@given(sets(), st.randoms(use_true_random=False))
def test_split_depends_on_file_names_not_on_order_or_group_numbers(samples: list[Sample], random) -> None:
    other = [replace(s, group=s.group if s.group < 0 else 100 - 3 * s.group) for s in samples]
    random.shuffle(other)
    first, second = split_samples(samples, SETTINGS), split_samples(other, SETTINGS)
    assert split_of(first) == split_of(second)
    assert split_digest(first) == split_digest(second)


def test_shares_per_class_are_kept_to_the_image_where_every_image_stands_alone() -> None:
    samples = make(["good"] * 200 + ["crack"] * 40 + ["spot"] * 10, [-1] * 250)
    found = Counter((s.defect, s.split) for s in split_samples(samples, SETTINGS))
    expected = {"good": (100, 40, 60), "crack": (20, 8, 12), "spot": (5, 2, 3)}
    assert found == {
        (n, s): k for n, row in expected.items() for s, k in zip(("train", "val", "test"), row, strict=True)
    }


def test_shares_are_close_with_groups_of_six_and_mixed_classes() -> None:
    groups = [i // 6 for i in range(600)]
    classes = ["crack" if g % 5 == 0 or i % 30 == 7 else "good" for i, g in enumerate(groups)]
    done = split_samples(make(classes, groups), SETTINGS)
    for name in ("good", "crack"):
        splits = Counter(s.split for s in done if s.defect == name)
        shares = [splits[split] / splits.total() for split in ("train", "val", "test")]
        assert shares == pytest.approx([0.5, 0.2, 0.3], abs=0.03)


def test_seed_moves_the_split() -> None:
    samples = make(["good"] * 100, [-1] * 100)
    digests = {split_digest(split_samples(samples, SETTINGS.model_copy(update={"split_seed": s}))) for s in range(4)}
    assert len(digests) == 4


def test_random_split_ignores_groups_and_its_leak_is_counted() -> None:
    samples = make(["good"] * 3000, [i // 6 for i in range(3000)])
    by_group = split_samples(samples, SETTINGS)
    at_random = split_samples(samples, SETTINGS.model_copy(update={"split": "random"}))
    assert leak_share(by_group) == 0
    # Each test image has five copies, each in train with chance 1/2: 1 - 0.5**5 = 0.97.
    assert leak_share(at_random) == pytest.approx(0.97, abs=0.02)


def test_leak_share_counts_test_images_not_groups() -> None:
    rows = [("train", 0), ("test", 0), ("test", 0), ("test", 1), ("val", 1), ("test", -1), ("train", -1)]
    samples = [Sample(image=str(i), group=g, split=s) for i, (s, g) in enumerate(rows)]
    assert leak_share(samples) == 0.5
    assert leak_share([replace(s, split="train") for s in samples]) == 0


def test_official_keeps_the_published_test_and_takes_validation_from_train_by_group() -> None:
    train = make(["good"] * 100, [i // 2 for i in range(100)], "train")
    test = [replace(s, image="t" + s.image) for s in make(["good", "crack"] * 10, [0] * 20, "test")]
    done = split_samples(train + test, SETTINGS.model_copy(update={"protocol": "official"}))
    assert all(s.split == "test" for s in done[100:])
    assert Counter(s.split for s in done[:100]) == {"train": 80, "val": 20}
    assert all(a.split == b.split for a, b in zip(done[:100:2], done[1:100:2], strict=True))
    # The published split has copies of its test images in train; it is kept as published, and said.
    assert leak_share(done) in (0.0, 1.0)
    assert leak_share(done) == float(done[0].split == "train")


def test_official_refuses_a_set_without_a_published_split() -> None:
    with pytest.raises(UserError, match=r"0000\.png has none; use 'supervised'"):
        split_samples(make(["good"] * 9, [-1] * 9), SETTINGS.model_copy(update={"protocol": "official"}))


def test_class_with_fewer_groups_than_splits_is_refused_with_its_count() -> None:
    samples = make(["good"] * 9 + ["crack"] * 12, [-1] * 9 + [0, 1] * 6)
    with pytest.raises(UserError, match="class 'crack' has 2 near-copy groups and needs at least 3"):
        split_samples(samples, SETTINGS)
    assert len(split_samples(samples, SETTINGS.model_copy(update={"split": "random"}))) == 21


@given(sets(), st.integers(0, 9), st.integers(0, 9), st.integers(0, 3))
def test_budgets_are_nested_and_show_different_parts_first(samples: list[Sample], k: int, more: int, seed: int) -> None:
    rows = np.arange(0, len(samples), 2)
    small, large = label_budget(samples, rows, k, seed), label_budget(samples, rows, k + more, seed)
    assert set(small) <= set(large) <= set(rows)
    assert list(small) == sorted(set(small))
    for name in CLASSES:
        mine = [row for row in rows if samples[row].defect == name]
        taken = [row for row in small if samples[row].defect == name]
        assert len(taken) == min(k, len(mine))
        parts = lambda some: len({(samples[r].group, r if samples[r].group < 0 else 0) for r in some})  # noqa: E731
        assert parts(taken) == min(k, parts(mine))


@given(sets(), st.randoms(use_true_random=False))
def test_budget_depends_on_file_names_not_on_order(samples: list[Sample], random) -> None:
    other = list(samples)
    random.shuffle(other)
    chosen = [{some[row].image for row in label_budget(some, range(len(some)), 4, 1)} for some in (samples, other)]
    assert chosen[0] == chosen[1]


def test_budget_none_takes_every_row_and_seeds_differ() -> None:
    samples = make(["good"] * 50, [-1] * 50)
    np.testing.assert_array_equal(label_budget(samples, [5, 3, 9], None, 0), [3, 5, 9])
    assert len({tuple(label_budget(samples, range(50), 5, seed)) for seed in range(4)}) == 4
