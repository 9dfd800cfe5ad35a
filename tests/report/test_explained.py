"""What explains a picture: of a ViT the relevance of its patches beside Grad-CAM, of others Grad-CAM alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fabricated_run import Fake, build
from read_page import Page

from ssl_defect.report.mistakes import heat_of, section
from ssl_defect.report.records import read_run
from ssl_defect.report.stage import render

FAKE = Fake(task="classification")


def test_a_vit_is_read_in_two_ways(tmp_path: Path) -> None:
    records = read_run(build(tmp_path, Fake(task="classification", relevance=True)), tmp_path)
    shown = [*section(records)["cam_wrong"], *section(records)["cam_right"]]
    assert len(shown) == len(records.relevance) == 4
    assert {tuple(name for name, _ in one["layers"]) for one in shown} == {("relevance", "Grad-CAM")}
    assert all(one["layers"][0][1] != one["layers"][1][1] for one in shown)
    page = Page(render(records))
    assert "Two readings of the same answer" in page.text
    assert page.html.count('aria-label="The same with its relevance"') == 4


def test_without_maps_the_gallery_shows_what_is_named_first(tmp_path: Path) -> None:
    for fake, name in ((FAKE, "Grad-CAM"), (Fake(task="classification", relevance=True), "relevance")):
        folder = tmp_path / name
        records = read_run(build(folder, fake), folder)
        assert section(records)["heat"] == name
        first = records.predictions[0]
        expected = (records.relevance or records.gradcam)[first.row]
        assert np.array_equal(heat_of(records, first, 0), expected)
        assert f'<span class="key heat"></span> {name} ' in render(records)


def test_others_have_grad_cam_alone(tmp_path: Path) -> None:
    records = read_run(build(tmp_path, FAKE), tmp_path)
    assert records.relevance == {}
    text = Page(render(records)).text
    assert "By Grad-CAM (Selvaraju et al., ICCV 2017)." in text
    assert "Two readings" not in text


def test_a_map_without_any_heat_says_so_instead_of_looking_broken(tmp_path: Path) -> None:
    records = read_run(build(tmp_path, FAKE), tmp_path)
    assert "is empty: nowhere" not in render(records)
    first = next(iter(records.gradcam))
    records.gradcam[first] = np.zeros_like(records.gradcam[first])
    assert render(records).count("Grad-CAM is empty: nowhere") == 1
