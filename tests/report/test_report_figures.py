"""Figures: points land where their numbers say."""

from __future__ import annotations

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from ssl_defect.report.figures import Dot, Series, curve, gauge, history, interval_dots, scatter, small_curve, waffle
from ssl_defect.report.histogram import score_bars
from ssl_defect.report.numbers import counted, listed, metric, part, rate, share
from ssl_defect.report.svg import Frame, marker, ticks

HOSTILE = '"><script>alert(1)</script>'


def parsed(svg: Markup) -> ElementTree.Element:
    return ElementTree.fromstring(str(svg))


def of_class(root: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [one for one in root.iter() if name in one.get("class", "").split()]


def test_a_frame_maps_its_corners() -> None:
    frame = Frame((2, 4), (-1, 1), width=100, height=80, left=10, right=20, top=5, bottom=15)
    assert (frame.across(2), frame.across(4), frame.across(3)) == (10, 80, 45)
    assert (frame.down(-1), frame.down(1), frame.down(0)) == (65, 5, 35)


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_are_even_and_inside(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 7
    slack = 1e-6 * max(1, abs(low), span)
    assert low - slack <= found[0]
    assert found[-1] <= low + span + slack
    steps = {round((b - a) / span, 4) for a, b in pairwise(found)}
    assert len(steps) <= 1


def test_the_operating_point_lies_on_its_numbers() -> None:
    root = parsed(curve(Series([0, 1], [0, 1]), ("x", "y"), "alt", [(0.25, 0.75)]))
    (mark,) = of_class(root, "mark")
    frame = Frame((0, 1), (0, 1))
    assert float(mark.get("cx", "")) == pytest.approx(frame.across(0.25), abs=0.06)
    assert float(mark.get("cy", "")) == pytest.approx(frame.down(0.75), abs=0.06)


def test_a_small_curve_ends_where_its_axis_does() -> None:
    series = Series([0, 0.3], [0, 1], band=([0, 0.3], [0, 0.9], [0.1, 1]), end=0.3)
    root = parsed(small_curve(series, Series([0, 0.3], [0, 0.5]), "alt", [(0.15, 0.5)]))
    frame = Frame((0, 0.3), (0, 1), width=240, height=190, left=32, bottom=24)
    (drawn,) = of_class(root, "s0")
    assert drawn.get("d", "").endswith(f"L{frame.across(0.3):g} {frame.down(1):g}")
    (mark,) = of_class(root, "mark")
    assert float(mark.get("cx", "")) == pytest.approx(frame.across(0.15), abs=0.06)
    assert len(of_class(root, "spread")) == len(of_class(root, "chance")) == 1


def test_a_figure_carries_the_place_of_what_it_shows() -> None:
    root = parsed(interval_dots([Dot("crack", 0.8, 0.7, 0.9, "classes.crack.image.auroc.value")], "AUROC", "alt"))
    (dot,) = of_class(root, "dot")
    assert (dot.get("data-test-figure"), dot.get("data-test-exact")) == ("classes.crack.image.auroc.value", "0.8")
    (told,) = parsed(score_bars([0.1], [0.9], 0.123456, "alt")).iter("tspan")
    assert (told.get("data-test-figure"), told.get("data-test-exact"), told.text) == (
        "threshold.value",
        "0.123456",
        "0.123",
    )
    assert 'data-test-figure="1000 * a / a + b" data-test-exact="250.0">250<' in part("a", "a + b", 0.25, 1000)


def test_a_scatter_draws_each_point_once_and_rings_the_wrong() -> None:
    clouds = [[(0.0, 0.0), (1.0, 1.0)], [(2.0, 2.0)], []]
    root = parsed(scatter(clouds, [(2.0, 2.0)], "alt"))
    drawn = [one.get("d", "") for one in of_class(root, "dots")]
    assert [text.count("M") for text in drawn] == [2, 1, 0]
    (ring,) = of_class(root, "ring")
    assert ring.get("d", "").count("M") == 1


def test_score_bars_count_every_image_and_mark_the_threshold() -> None:
    root = parsed(score_bars([0.1, 0.1, 0.1, 0.1, 0.9], [0.95], 0.5, "alt"))
    heights = sorted(float(one.get("height", "")) for one in of_class(root, "good"))
    assert heights[1] == pytest.approx(2 * heights[0], rel=0.01)  # square roots of 4 and 1
    assert len(of_class(root, "bad")) == 1
    (rule,) = of_class(root, "threshold")
    assert re.match(r"M280 ", rule.get("d", ""))


@pytest.mark.parametrize(("share_", "filled"), [(0, 0), (0.001, 1), (0.123, 12), (0.999, 99), (1, 100)])
def test_a_waffle_never_rounds_to_none_or_all(share_: float, filled: int) -> None:
    assert len(of_class(parsed(waffle(share_, "miss", "alt")), "miss")) == filled


def test_labels_cannot_break_out_of_a_figure() -> None:
    rows = [Dot(HOSTILE, 0.8, 0.7, 0.9, HOSTILE), Dot("undefined interval", 0.6, None, None)]
    root = parsed(interval_dots(rows, HOSTILE, HOSTILE))
    assert not list(root.iter("script"))
    assert root.get("aria-label") == HOSTILE
    assert len(of_class(root, "whisker")) == 1
    parsed(history([Series([1], [0.5])], (HOSTILE, HOSTILE), HOSTILE))


def test_a_gauge_holds_its_value_within_its_band() -> None:
    root = parsed(gauge(0.8, 0.7, 0.9))
    (band,), (tick,) = of_class(root, "band"), of_class(root, "tick")
    start, width = float(band.get("x", "")), float(band.get("width", ""))
    assert start < float(tick.get("x", "")) + 1.5 < start + width
    parsed(gauge(0.8, None, None))


def test_unknown_marker_shapes_do_not_exist() -> None:
    with pytest.raises(KeyError):
        marker("star", 0, 0, 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0, "0%"), (0.0004, "0.04%"), (0.004, "0.4%"), (0.5, "50%"), (0.9996, "99.9%"), (1, "100%")],
)
def test_shares_never_round_to_none_or_all(value: float | None, text: str) -> None:
    assert share(value) == text


def test_words_around_numbers() -> None:
    assert [rate(value) for value in (0, 0.44, 4.2, 12.4, 1234.0)] == ["0", "0.4", "4.2", "12", "1,234"]
    assert [counted(number, "image") for number in (0, 1, 1234)] == ["0 images", "1 image", "1,234 images"]
    assert listed(["a"]) == "a"
    assert listed(list("abcd"), 2) == "a, b and 2 more"
    assert 'title="no good &lt;image&gt;"' in metric("x", {"value": None, "why": "no good <image>"})
