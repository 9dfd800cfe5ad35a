"""The source `coco`: what it reads, what it refuses, and pictures of another size than the annotated one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssl_defect.artifacts import read_json
from ssl_defect.config import Recipe
from ssl_defect.data.boxes import box_names, read_boxes
from ssl_defect.data.prepare import inputs_digest, prepare
from ssl_defect.data.records import Sample
from ssl_defect.data.sources import coco
from ssl_defect.data.store import open_store
from ssl_defect.errors import UserError


def write_coco(root: Path, **changes: object) -> Path:
    for name in ("a.png", "b.png", "sub/c.png"):
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "images" / name).touch()
    content = {
        "images": [
            {"id": number, "file_name": name, "width": 100, "height": 50}
            for number, name in enumerate(("b.png", "a.png", "sub/c.png"))
        ],
        "categories": [{"id": 7, "name": "spot"}, {"id": 9, "name": "dirt; oil"}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 7, "bbox": [10, 20, 5, 6]},
            {"id": 2, "image_id": 0, "category_id": 9, "bbox": [0, 0, 1, 1]},
            {"id": 3, "image_id": 0, "category_id": 9, "bbox": [90, 40, 20, 20]},
            {"id": 4, "image_id": 2, "category_id": 7, "bbox": [1.5, 2.5, 3, 4]},
        ],
    }
    (root / "boxes.json").write_text(json.dumps(content | changes))
    return root


def test_coco_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = coco.scan(write_coco(tmp_path), coco.Options())
    assert samples == [
        Sample("images/a.png", width=100, height=50),
        Sample(
            "images/b.png",
            label=1,
            defect="dirt; oil",
            width=100,
            height=50,
            boxes="10 20 15 26 spot; 0 0 1 1 dirt%3B oil; 90 40 100 50 dirt%3B oil",
        ),
        Sample("images/sub/c.png", label=1, defect="spot", width=100, height=50, boxes="1.5 2.5 4.5 6.5 spot"),
    ]
    assert "1 boxes reached beyond their picture" in capsys.readouterr().err


def annotation(**changes: object) -> list[dict]:
    return [{"id": 5, "image_id": 0, "category_id": 7, "bbox": [1, 2, 3, 4]} | changes]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"annotations": []}, "its list 'annotations' is empty"),
        ({"annotations": None}, "lacks the list 'annotations'"),
        ({"images": [{"id": 0, "file_name": "a.png", "width": 3}]}, r"images\[0\] lacks 'height'"),
        ({"annotations": [{"id": 5, "image_id": 0, "bbox": [1, 2, 3, 4]}]}, r"annotations\[0\] lacks 'category_id'"),
        ({"annotations": [7]}, r"annotations\[0\] is 7; it must hold image_id, category_id, bbox"),
        ({"categories": [{"id": 7, "name": "a"}, {"id": 7, "name": "b"}]}, "two categories .* have the same id"),
        ({"annotations": annotation(image_id=8)}, "annotation 5 is of image_id 8, which 'images' lacks"),
        ({"annotations": annotation(category_id=8)}, r"category_id 8; 'categories' has 7 \(spot\), 9"),
        ({"annotations": annotation(bbox=[100, 2, 3, 4])}, r"'b.png': the box \[100, 2, 3, 4\] lies outside"),
        ({"annotations": annotation(bbox=[1, 2, 0, 4])}, r"the box \[1, 2, 0, 4\] has no area"),
        ({"annotations": annotation(bbox=[1, 2, 4])}, r"is not \[x, y, width, height\]"),
        ({"images": [{"id": 0, "file_name": "d.png", "width": 3, "height": 3}]}, "the picture 'd.png' is not in"),
        ({"images": [{"id": 0, "file_name": "../a.png", "width": 3, "height": 3}]}, "is not in"),
        ({"categories": [{"id": 7, "name": "good"}]}, "a category is named 'good'"),
    ],
)
def test_coco_source_refuses_in_one_line(tmp_path: Path, changes: dict, line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        coco.scan(write_coco(tmp_path, **changes), coco.Options())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "key", "value", "line"),
    [
        ("images", "id", [1], r"'id' is \[1\], which is not a number or a text"),
        ("images", "id", None, "'id' is None, which is not a number or a text"),
        ("images", "file_name", None, "'file_name' is None, which is not a text"),
        ("images", "file_name", 3, "'file_name' is 3, which is not a text"),
        ("images", "width", None, "'width' is None, which is not a whole number of pixels above 0"),
        ("images", "width", "60", "'width' is '60', which is not a whole number"),
        ("images", "width", True, "'width' is True, which is not a whole number"),
        ("images", "height", 0, "'height' is 0, which is not a whole number"),
        ("images", "height", 20.5, r"'height' is 20\.5, which is not a whole number"),
        ("images", "height", float("nan"), "'height' is nan, which is not a whole number"),
        ("images", "height", [50], r"'height' is \[50\], which is not a whole number"),
        ("categories", "id", {"a": 1}, r"'id' is {'a': 1}, which is not a number or a text"),
        ("categories", "name", None, "'name' is None, which is not a number or a text"),
        ("annotations", "image_id", [1], r"'image_id' is \[1\], which is not a number or a text"),
        ("annotations", "category_id", [1], r"'category_id' is \[1\], which is not a number or a text"),
        ("annotations", "category_id", None, "'category_id' is None, which is not a number or a text"),
        ("annotations", "bbox", None, r"'bbox' is None, which is not \[x, y, width, height\], four numbers in pixels"),
        ("annotations", "bbox", "1234", r"'bbox' is '1234', which is not \[x, y"),
        ("annotations", "bbox", [1, 2, None, 4], r"'bbox' is \[1, 2, None, 4\], which is not \[x, y"),
        ("annotations", "bbox", [1, 2, [3], 4], r"'bbox' is \[1, 2, \[3\], 4\], which is not \[x, y"),
        ("annotations", "bbox", [1, 2, float("inf"), 4], r"'bbox' is \[1, 2, inf, 4\], which is not \[x, y"),
        ("annotations", "bbox", [1, 2, 10**400, 4], r"'bbox' is \[1, 2, 10.*, 4\], which is not \[x, y"),
    ],
)
def test_a_value_of_a_wrong_type_is_named_with_its_entry(
    tmp_path: Path, section: str, key: str, value: object, line: str
) -> None:
    content = json.loads((write_coco(tmp_path) / "boxes.json").read_text())
    content[section][1][key] = value
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"boxes\.json: {section}\[1\]: {line}.*; correct it or export") as caught:
        coco.scan(tmp_path, coco.Options())
    assert "\n" not in str(caught.value)


def test_ids_may_be_texts_or_large_and_sizes_may_be_written_with_a_point(tmp_path: Path) -> None:
    images = [
        {"id": key, "file_name": f"{name}.png", "width": 100.0, "height": 50} for key, name in (("x", "a"), (0, "b"))
    ]
    categories = [{"id": 10**12, "name": 3}]
    wanted = annotation(image_id="x", category_id=10**12)
    write_coco(tmp_path, images=images, categories=categories, annotations=wanted)
    assert coco.scan(tmp_path, coco.Options()) == [
        Sample("images/a.png", label=1, defect="3", width=100, height=50, boxes="1 2 4 6 3"),
        Sample("images/b.png", width=100, height=50),
    ]


def write_pictures(root: Path, count: int = 40) -> dict:
    """Pictures of 60 x 30 pixels, the odd ones with a box, and the content of their annotation file."""
    rng, images, annotations = np.random.default_rng(0), [], []
    root.mkdir()
    for number in range(count):
        name = f"{number}.png"
        Image.fromarray(rng.integers(0, 255, (30, 60), dtype=np.uint8)).save(root / name)
        images.append({"id": number, "file_name": name, "width": 60, "height": 30})
        if number % 2:
            annotations.append({"image_id": number, "category_id": 1, "bbox": [6, 3, 30, 15]})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "spot"}]}
    (root / "boxes.json").write_text(json.dumps(content))
    return content


def make_recipe(root: Path, **data: object) -> Recipe:
    given = {"source": "coco", "root": str(root), "image_size": 20} | data
    return Recipe.model_validate({"name": "x", "data": given, "compute": {"threads": 1}})


def test_boxes_pass_through_prepare(tmp_path: Path) -> None:
    content = write_pictures(tmp_path / "raw")
    recipe = make_recipe(tmp_path / "raw")
    before = inputs_digest(recipe)
    prepare(recipe, tmp_path / "prepare")
    store = open_store(tmp_path / "prepare")
    table = read_boxes(store, box_names(store))
    assert store.masks is None
    assert read_json(tmp_path / "prepare" / "audit.json")["set_aside"] == []
    assert table.counts.sum() == 20
    assert all(edges.tolist() == [[2, 2, 12, 12]] for edges in table.edges if len(edges))
    content["annotations"][0]["bbox"] = [0, 0, 1, 1]
    (tmp_path / "raw" / "boxes.json").write_text(json.dumps(content))
    assert inputs_digest(recipe) != before


def test_pictures_of_another_size_than_the_annotated_one_are_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    content = write_pictures(raw)
    for number in (0, 1):  # a good and a defective one, resized after annotation
        Image.open(raw / f"{number}.png").resize((30, 15)).save(raw / f"{number}.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in (2, 3):  # turned by EXIF, annotated on the raw pixels
        Image.open(raw / f"{number}.png").save(raw / f"{number}.png", exif=exif)
    for number in (4, 5):  # the same, but annotated as they are shown
        Image.open(raw / f"{number}.png").save(raw / f"{number}.png", exif=exif)
        content["images"][number] |= {"width": 30, "height": 60}
    (raw / "boxes.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"4 of 40 images are unusable.*its annotation is for 60 x 30 pixels"):
        prepare(make_recipe(raw), tmp_path / "refused")
    prepare(make_recipe(raw, max_unusable=0.1), tmp_path / "prepare")
    resized = "its annotation is for 60 x 30 pixels, the picture 30 x 15; annotate the picture as it is"
    turned = resized.replace("30 x 15", "30 x 60 once turned by its EXIF orientation")
    aside = read_json(tmp_path / "prepare" / "audit.json")["set_aside"]
    assert {entry["image"]: entry["reason"] for entry in aside} == {
        "0.png": resized,
        "1.png": resized,
        "2.png": turned,
        "3.png": turned,
    }
    assert f"set aside 4 of 40 images: '0.png' and 1 more: {resized}" in capsys.readouterr().err
    store = open_store(tmp_path / "prepare")
    table = read_boxes(store, box_names(store))
    rows = {sample.image: row for row, sample in enumerate(store.samples)}
    assert len(rows) == 36
    assert table.edges[rows["7.png"]].tolist() == [[2, 2, 12, 12]]
    np.testing.assert_allclose(table.edges[rows["5.png"]], [[4, 1, 20, 6]])


def test_pictures_that_the_annotation_does_not_list_are_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_coco(tmp_path)
    (root / "images" / "sub" / "new.png").touch()
    assert len(coco.scan(root, coco.Options())) == 3
    assert "1 pictures left out, not in the list 'images' of boxes.json" in capsys.readouterr().err


def test_coco_source_needs_one_file(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "more.json").write_text("{")
    with pytest.raises(UserError, match=r"2 \.json files \(boxes.json, more.json\)"):
        coco.scan(tmp_path, coco.Options())
    with pytest.raises(UserError, match="not valid JSON in line 1"):
        coco.scan(tmp_path, coco.Options(annotations="more.json"))
    with pytest.raises(UserError, match="does not exist"):
        coco.scan(tmp_path, coco.Options(annotations="none.json"))
    with pytest.raises(UserError, match=r"the picture 'b\.png' is not in .*pictures"):
        coco.scan(tmp_path, coco.Options(annotations="boxes.json", images="pictures"))


@pytest.mark.parametrize("text", ["[" * 100_000, "[" + "1" * 5000 + "]"], ids=["too deep", "a number too long"])
def test_json_beyond_what_python_reads_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    write_coco(tmp_path)
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(UserError, match=r"boxes\.json: not valid JSON; export the annotation again"):
        coco.scan(tmp_path, coco.Options())
