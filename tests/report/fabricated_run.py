"""A whole run folder made up without a detector, in the formats that the stages promise."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ssl_defect.artifacts import Record, write_json, write_record
from ssl_defect.config import Recipe
from ssl_defect.data.records import Sample, write_samples
from ssl_defect.evaluate.bootstrap import Resampling
from ssl_defect.evaluate.calibration import calibration
from ssl_defect.evaluate.sizes import recall_by_area

NASTY_CLASS = "<script>alert(1)</script>"
NASTY_IMAGE = '"><img src=x onerror=alert(1)>.png'
MACHINE = {"processor": "Test CPU", "cores": 2, "system": "Linux"}


@dataclass
class Fake:
    """What to fabricate; every optional record can be left out."""

    count: int = 60
    size: int = 32
    channels: int = 1
    task: str = "segmentation"
    method: str = "simclr"
    defects: tuple[str, ...] = ("crack", "stain")
    source: str = "folder"
    embeddings: bool = True
    gradcam: int = 4
    relevance: bool = False
    masks: bool = True
    views: bool = True
    snapshots: bool = True
    warnings: tuple[str, ...] = ()
    title: str = "SimCLR"
    logs: dict[str, str] = field(default_factory=lambda: {"agreement": "mean cosine of the two views, in [-1, 1]"})
    strip: tuple[str, ...] = ("picture", "one view", "another view")
    recorded: bool = True
    split: str = "group"
    one_class: bool = False
    seed: int = 0
    older: bool = False  # evaluated before calibration, sizes, bands and curves of classes were recorded
    sections: dict[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        data = {"source": self.source, "root": "pictures", "image_size": self.size, "split": self.split}
        return Recipe.model_validate(
            {
                "name": "fabricated",
                "description": "A run that never was.",
                "data": data,
                "pretrain": {"method": self.method, "epochs": 5},
                "finetune": {"task": self.task, "labels_per_class": 10},
                **self.sections,
            }
        )


def build(run: Path, fake: Fake) -> Recipe:
    """Write `run/{prepare,pretrain,finetune,evaluate}` and return the recipe that would have made them."""
    rng = np.random.default_rng(fake.seed)
    samples, masks = _samples(fake, rng)
    images = _images(fake, masks, rng)
    for stage in ("prepare", "pretrain", "finetune", "evaluate"):
        (run / stage).mkdir(parents=True, exist_ok=True)
    _prepare(run / "prepare", fake, samples, images, masks)
    _pretrain(run / "pretrain", fake, images, samples)
    _finetune(run / "finetune", fake, samples)
    _evaluate(run / "evaluate", fake, samples, masks, rng)
    if fake.recorded:
        _records(run)
    return fake.recipe


def _samples(fake: Fake, rng: np.random.Generator) -> tuple[list[Sample], np.ndarray]:
    samples, masks = [], np.zeros((fake.count, fake.size, fake.size), np.uint8)
    for row in range(fake.count):
        bad = row % 3 == 2 and not fake.one_class
        defect = fake.defects[row // 6 % len(fake.defects)] if bad else "good"
        if bad and fake.masks:
            y, x = rng.integers(2, fake.size - 10, 2)
            masks[row, y : y + 5, x : x + 8] = 1
        name = NASTY_IMAGE if row == 2 else f"part/{row:04d}.png"
        split = "test" if row % 6 in {0, 1, 2} else ("val" if row % 6 == 3 else "train")
        samples.append(
            Sample(
                image=name,
                mask=f"mask/{row}.png" if bad and fake.masks else "",
                label=int(bad),
                defect=defect,
                group=row // 2,
                split=split,
                width=fake.size * 2,
                height=fake.size,
                area=float(masks[row].mean()),
            )
        )
    return samples, masks


def _images(fake: Fake, masks: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    base = rng.integers(100, 160, (fake.count, fake.size, fake.size, fake.channels), dtype=np.uint8)
    return np.where(masks[..., None] > 0, base // 3, base).astype(np.uint8)


def _prepare(folder: Path, fake: Fake, samples: list[Sample], images: np.ndarray, masks: np.ndarray) -> None:
    write_samples(folder / "samples.csv", samples)
    np.save(folder / "images.npy", images)
    if fake.masks:
        np.save(folder / "masks.npy", masks)
    names = sorted({sample.defect for sample in samples})
    splits = {
        split: {name: sum(s.defect == name and s.split == split for s in samples) for name in names}
        for split in ("train", "val", "test")
    }
    write_json(
        folder / "audit.json",
        {
            "root": "pictures",
            "source": fake.source,
            "protocol": "supervised",
            "split": fake.split,
            "split_seed": 0,
            "image_size": fake.size,
            "channels": fake.channels,
            "mask_rule": "above half of full scale; a cell is defective when any of it is",
            "counts": {name: sum(s.defect == name for s in samples) for name in names},
            "usable": len(samples),
            "set_aside": [{"image": "broken.png", "reason": "truncated file"}],
            "empty_masks": ["part/empty.png"],
            "odd": [{"image": "part/0001.png", "what": "16-bit grey, scaled to 8 bits"}],
            "sizes": {"min": [64, 32], "max": [64, 32], "distinct": 1},
            "shortcuts": {"brightness": {"test": 0.03, "drift": 0.5}, "contrast": {"test": 0.6, "drift": None}},
            "copies": {
                "groups": len(samples) // 2,
                "images": len(samples),
                "largest": 2,
                "sizes": {"2": len(samples) // 2},
                "seconds": 1.0,
                "examples": [[0, 1], [2, 3], [4, 5]],
                "mixed_labels": [{"group": 1, "images": [samples[2].image, samples[3].image], "defects": names[::-1]}],
            },
            "leak": {"random_split_share": 0.625, "this_split_share": 0.0 if fake.split == "group" else 0.625},
            "splits": splits,
            "split_digest": "0123456789abcdef",
        },
    )


def _table(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def _pretrain(folder: Path, fake: Fake, images: np.ndarray, samples: list[Sample]) -> None:
    (folder / "encoder.safetensors").write_bytes(b"weights")
    trained = fake.method not in {"none", "imagenet"}
    probe = {"metric": "kNN AUROC on validation", "before": 0.612, "after": 0.747 if trained else 0.612, "k": 5}
    told = {"title": fake.title, "logs": fake.logs, "strip": list(fake.strip), "chance": 3.4340} if trained else {}
    write_json(
        folder / "pretrain.json",
        {
            "method": fake.method,
            "start": "random",
            "origin": "random weights",
            "epochs": 5 if trained else 0,
            "probe": probe,
            "linear_probe": {"metric": "linear AUROC on validation", "before": 0.55, "after": 0.71},
            "rank": {"metric": "effective rank (RankMe)", "before": 15.2, "after": 31.5},
            "precision": "float32",
            "seconds": 12.0,
            "training_seconds": 95.0,
            "probe_seconds": 7.0,
            "collapsed": False,
            "warnings": list(fake.warnings),
        }
        | told,
    )
    if not trained:
        return
    measured = ["probe", "linear_probe", "rank", "feature_spread", "probe_seconds"]
    header = ["epoch", "loss", *fake.logs, "spread", "learning_rate", "images_per_second", "seconds", *measured]
    rows = [
        [e, 3 / e, *(0.1 * e for _ in fake.logs), 0.7, 0.001, 400, 2.0]
        + ([0.6 + 0.03 * e, 0.55 + 0.04 * e, 15 + 4 * e, 0.3, 1.4] if e != 2 else [""] * 5)
        for e in range(1, 6)
    ]
    _table(folder / "history.csv", header, rows)
    if fake.views:
        grey = np.broadcast_to(images[:6, None, :, :, :1], (6, len(fake.strip), fake.size, fake.size, 3)).copy()
        before = grey.copy()
        before[:, -1] //= 2
        np.savez(folder / "pictures.npz", views=grey, before=before)
    if fake.snapshots:
        rng = np.random.default_rng(fake.seed)
        shown = [row for row, sample in enumerate(samples) if sample.split == "train"]
        places = rng.normal(size=(2, 4, len(shown), 2)).astype(np.float32)
        places[1, 0] = np.nan  # t-SNE has no map where all features are alike
        np.savez(folder / "snapshots.npz", rows=shown, epochs=[0, 2, 3, 5], pca=places[0], tsne=places[1])


def _finetune(folder: Path, fake: Fake, samples: list[Sample]) -> None:
    (folder / "model.safetensors").write_bytes(b"weights")
    rows = [[s, 1 / s, 1e-3, 0.5 + 0.001 * s] for s in range(25, 401, 25)]
    _table(folder / "history.csv", ["step", "loss", "learning_rate", "validation"], rows)
    names = sorted({sample.defect for sample in samples})
    write_json(
        folder / "finetune.json",
        {
            "task": fake.task,
            "classes": names,
            "labels": dict.fromkeys(names, 10),
            "labels_per_class": 10,
            "best_step": 300,
            "best_validation": 0.8,
            "validation_metric": "AUROC on validation",
            "stopped_early": True,
            "seconds": 30.0,
            "precision": "float32",
            "losses": {"dice": 1.0, "focal": 1.0},
        },
    )


def _entry(value: float | None, spread: float = 0.05) -> dict[str, Any]:
    if value is None:
        return {"value": None, "low": None, "high": None, "why": "the test images hold one class only"}
    return {"value": value, "low": max(0.0, value - spread), "high": min(1.0, value + spread)}


def _evaluate(folder: Path, fake: Fake, samples: list[Sample], masks: np.ndarray, rng: np.random.Generator) -> None:
    scores = np.array([np.clip(rng.normal(0.35 + 0.3 * s.label, 0.16), 0, 1) for s in samples])
    header = "image,row,split,group,label,defect,score,verdict,correct,predicted_class,area_true,area_predicted"
    rows, test = [], []
    for row, (sample, score) in enumerate(zip(samples, scores, strict=True)):
        if sample.split == "train":
            continue
        verdict = "defective" if score >= 0.5 else "good"
        correct = int((verdict == "defective") == bool(sample.label))
        area = [sample.area, sample.area * 0.8] if fake.task == "segmentation" else ["", ""]
        facts = [sample.image, row, sample.split, sample.group, sample.label, sample.defect]
        rows.append([*facts, float(score), verdict, correct, sample.defect if correct else "good", *area])
        if sample.split == "test":
            test.append(row)
    _table(folder / "predictions.csv", header.split(","), rows)
    write_json(folder / "metrics.json", _metrics(fake, samples, scores, test))
    write_json(folder / "curves.json", _curves(fake))
    if fake.task == "segmentation":
        noise = rng.integers(0, 60, (len(test), fake.size, fake.size))
        np.save(folder / "maps.npy", np.clip(np.roll(masks[test], 2, 1) * 190 + noise, 0, 255).astype(np.uint8))
    if fake.gradcam:
        cam = rng.integers(0, 256, (fake.gradcam, fake.size, fake.size), dtype=np.uint8)
        beside = {"relevance": cam[:, ::-1]} if fake.relevance else {}
        np.savez(folder / "gradcam.npz", rows=np.array(test[: fake.gradcam]), cam=cam, **beside)
    if fake.embeddings:
        header = "row,split,label,defect,pca_x,pca_y,tsne_x,tsne_y,umap_x,umap_y"
        points = [[r, "test", samples[r].label, samples[r].defect, *rng.normal(samples[r].label, 1, 6)] for r in test]
        _table(folder / "embeddings.csv", header.split(","), points)


def _metrics(fake: Fake, samples: list[Sample], scores: np.ndarray, test: list[int]) -> dict[str, Any]:
    truth = np.array([samples[row].label for row in test], dtype=bool)
    called = scores[test] >= 0.5
    tp, fp = int((truth & called).sum()), int((~truth & called).sum())
    fn, tn = int((truth & ~called).sum()), int((~truth & ~called).sum())
    both = None if fake.one_class else 1
    image = {
        "auroc": _entry(both and 0.8712345),
        "ap": _entry(both and 0.7654321),
        "precision": _entry(tp / (tp + fp) if tp + fp else None),
        "recall": _entry(tp / (tp + fn) if tp + fn else None),
        "f1": _entry(2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None),
        "accuracy": _entry((tp + tn) / len(test)),
        "confusion": {"tn": tn, "fp": fp, "fn": fn, "tp": tp},
    }
    pixel = None
    if fake.task == "segmentation" and fake.masks:
        values = {"auroc": 0.91234, "ap": 0.41234, "iou": 0.31234, "dice": 0.47654, "aupro": 0.65432}
        pixel = {**{key: _entry(value) for key, value in values.items()}, "aupro_limit": 0.3}
    counts = {name: sum(samples[row].defect == name for row in test) for name in fake.defects}
    classes = {
        name: {
            "images": count,
            "image": {"auroc": _entry(0.9 - 0.1 * k), "ap": _entry(0.7), "recall": _entry(0.85 - 0.2 * k)},
            "pixel": pixel and {key: pixel[key] for key in ("auroc", "ap", "iou", "dice", "aupro")},
        }
        for k, (name, count) in enumerate(counts.items())
        if count
    }
    names = ["good", *fake.defects]
    matrix = (np.eye(len(names), dtype=int) * 7 + 1).tolist()
    return {
        "protocol": {
            "name": "supervised",
            "split": fake.split,
            "split_digest": "0123456789abcdef",
            "task": fake.task,
            "labels_per_class": 10,
            "image_size": fake.size,
            "mask_rule": "above half",
            "seed": 0,
            "threshold_source": "validation",
        },
        "threshold": {
            "value": None if fake.one_class else 0.5,
            "rule": "max F1 on validation",
            "source": "validation",
            "pixel": 0.5 if pixel else None,
        },
        "counts": {
            "test": len(test),
            "good": int((~truth).sum()),
            "defective": int(truth.sum()),
            "groups": len({samples[row].group for row in test}),
        },
        "interval": {"level": 0.95, "draws": 1000, "unit": "near-copy group", "method": "percentile bootstrap"},
        "image": image,
        "pixel": pixel,
        "classes": classes,
        **({} if fake.older else _told(truth, scores[test], samples, test)),
        "class_confusion": {"classes": names, "matrix": matrix} if fake.task == "classification" else None,
        "seconds": 3.0,
        "ms_per_image": 4.2,
    }


def _told(truth: np.ndarray, scores: np.ndarray, samples: list[Sample], test: list[int]) -> dict[str, Any]:
    """Calibration and recall by area, as evaluate measures them."""
    groups, areas = (np.array([getattr(samples[row], name) for row in test]) for name in ("group", "area"))
    drawn = truth & (areas > 0)
    sizes = recall_by_area(areas[drawn], scores[drawn] >= 0.5, groups[drawn], 0.95)
    return {"calibration": calibration(truth, scores, groups, Resampling(100)), "sizes": sizes}


def _curves(fake: Fake) -> dict[str, Any]:
    t = np.linspace(0, 1, 60)
    roc = {"fpr": t.tolist(), "tpr": (t**0.3).tolist(), "threshold": (1 - t).tolist()}
    pr = {"recall": t.tolist(), "precision": (1 - 0.6 * t**2).tolist(), "threshold": (1 - t).tolist()}
    pixel = fake.task == "segmentation" and fake.masks
    pro = {"fpr": (0.3 * t).tolist(), "pro": (t**0.4).tolist()}
    empty: dict[str, Any] = {"fpr": [], "tpr": [], "threshold": []}
    none = {"recall": [], "precision": [], "threshold": []}
    bands = {
        "roc": _band(roc, "fpr", "tpr"),
        "pr": _band(pr, "recall", "precision"),
        **({"pixel_roc": _band(roc, "fpr", "tpr"), "pixel_pr": _band(pr, "recall", "precision")} if pixel else {}),
        **({"pro": _band(pro, "fpr", "pro")} if pixel else {}),
    }
    of_class = {"roc": roc, "pr": pr, **({"pro": pro} if pixel else {}), "bands": bands}
    more = {"bands": bands, "classes": dict.fromkeys(fake.defects, of_class)}
    return {
        **({} if fake.older or fake.one_class else more),
        "roc": empty if fake.one_class else roc,
        "pr": none if fake.one_class else pr,
        "pixel_roc": roc if pixel else None,
        "pixel_pr": pr if pixel else None,
        "pro": pro if pixel else None,
    }


def _band(curve: dict[str, Any], across: str, up: str) -> dict[str, Any]:
    ys = np.array(curve[up])
    return {across: curve[across], "low": np.maximum(ys - 0.06, 0).tolist(), "high": np.minimum(ys + 0.06, 1).tolist()}


def _records(run: Path) -> None:
    for stage in ("prepare", "pretrain", "finetune", "evaluate"):
        record = Record(
            stage=stage,
            fingerprint="f",
            settings={},
            inputs={},
            code="c",
            seconds=75.0,
            peak_memory_mb=1234.0,
            created="2026-01-01T00:00:00+00:00",
            command="ssl-defect run experiments/fabricated.yaml",
            taken_from="runs/other" if stage == "pretrain" else "",
            machine=MACHINE,
            versions={"python": "3.11.0", "torch": "2.4.0"},
        )
        write_record(run / stage, record)


def metrics_of(run: Path) -> Any:
    """metrics.json of a run."""
    return json.loads((run / "evaluate" / "metrics.json").read_text(encoding="utf-8"))
