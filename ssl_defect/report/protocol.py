"""Everything one needs to believe the numbers and to make them again."""

from __future__ import annotations

import shlex
from typing import Any

from ssl_defect.artifacts import Record, digest
from ssl_defect.config import Recipe, dump_yaml
from ssl_defect.console import minutes
from ssl_defect.report.numbers import counted
from ssl_defect.report.records import STAGES, RunRecords
from ssl_defect.report.verdict import method_name

# Words for the sources whose pictures come with conditions or wish to be cited.
LICENCES = {
    "elpv": (
        "The pictures are the elpv dataset of solar cells, licensed CC BY-NC-SA 4.0: no commercial use, and pages "
        "that show them, as this one does, are shared under the same licence. Cite Buerhop-Lutz et al., A benchmark "
        "for visual identification of defective solar cells in electroluminescence imagery, EU PVSEC 2018, and "
        "Deitsch et al., Automatic classification of defective photovoltaic module cells in electroluminescence "
        "images, Solar Energy 185, 2019."
    ),
    "magnetic_tile": (
        "The pictures are the Magnetic Tile surface defects; no licence is stated, the authors welcome use with a "
        "citation: Huang, Qiu, Yuan, Surface defect saliency of magnetic tile, The Visual Computer, 2020."
    ),
    "mvtec": (
        "If these are pictures of MVTec AD: they are licensed CC BY-NC-SA 4.0 (no commercial use). Cite Bergmann, "
        "Fauser, Sattlegger, Steger, MVTec AD, CVPR 2019. Other sets in the same layout have terms of their own."
    ),
    "synthetic": "The pictures are generated; nothing on this page was photographed.",
}


def section(records: RunRecords) -> dict[str, Any]:
    """Recipe, split, seeds, threshold, machine, versions and time."""
    return {
        "facts": [(name, text) for name, text in _facts(records) if text],
        "stages": [_stage(name, records.stages.get(name)) for name in STAGES],
        "splits": splits(records),
        "total": _total(records),
        "machine": _machine(records),
        "versions": _versions(records),
        "use": _use(records),
        "command": _command(records),
        "recipe": dump_yaml(records.recipe),
        "licence": LICENCES.get(records.recipe.data.source, ""),
    }


def _task(name: str, recipe: Recipe) -> str:
    """The task, and what it stands on: a classical detector has no backbone."""
    if name == "anomaly" and recipe.anomaly:
        return f"{name}: {recipe.anomaly.detector} on {recipe.model.backbone}, from good images alone"
    if name == "classical":
        return f"{name}: {recipe.finetune.options.get('method', 'golden')}"
    return f"{name} on {recipe.model.backbone}"


def _labels(records: RunRecords) -> str:
    """What the detector learnt from."""
    if records.metrics["protocol"]["task"] == "anomaly":
        return f"{counted(records.finetune['labels']['good'], 'good image')}, no defect"
    budget = records.metrics["protocol"].get("labels_per_class")
    return "all training images" if budget is None else f"{budget} per class"


def _facts(records: RunRecords) -> list[tuple[str, str]]:
    protocol, threshold = records.metrics["protocol"], records.metrics["threshold"]
    bootstrap, recipe = records.metrics["interval"], records.recipe
    pixel, unit = threshold.get("pixel"), bootstrap["unit"]
    return [
        ("Protocol", f"{protocol['name']}, split by {protocol['split']}"),
        ("Split digest", str(protocol["split_digest"])),
        ("Raw pictures digest", _pictures(records)),
        ("Test labels opened", _opened(protocol.get("test_opened"))),
        ("Seeds", f"recipe {recipe.seed}, pretraining {recipe.pretrain_seed}, split {recipe.data.split_seed}"),
        ("Task", _task(protocol["task"], recipe)),
        (
            "Pretraining",
            f"{method_name(records.pretrain)}, from {records.pretrain.get('origin') or 'random'}",
        ),
        ("Labels", _labels(records)),
        ("Resolution", f"{protocol['image_size']} x {protocol['image_size']} pixels"),
        ("Mask rule", str(protocol.get("mask_rule") or "")),
        ("Threshold", _threshold(threshold)),
        ("Pixel threshold", "" if pixel is None else f"{pixel:.4f}"),
        ("Intervals", f"{100 * bootstrap['level']:g}%, {bootstrap['method']}, by {unit}"),
        ("Bands of curves", f"{bootstrap['draws']:,} draws by {unit}"),
        ("Precision", _precision(records)),
        ("Speed", _speed(records.metrics.get("ms_per_image"))),
    ]


def splits(records: RunRecords) -> list[dict[str, str]]:
    """Images of each split and the digest of their names, so that two runs can be seen to share a test set."""
    found = []
    for split in ("train", "val", "test"):
        names = sorted(sample.image for sample in records.store.samples if sample.split == split)
        if names:
            found.append({"name": split, "images": f"{len(names):,}", "digest": digest(names)})
    return found


def _pictures(records: RunRecords) -> str:
    record = records.stages.get("prepare")
    return str(record.inputs.get("pictures", "")) if record else ""


def _opened(times: int | None) -> str:
    """How often this run has measured on its test images: a second look tempts to choose by them."""
    return "" if times is None else f"{counted(times, 'time')} in this run"


def _total(records: RunRecords) -> str:
    """Minutes of all stages that this run made itself."""
    own = [record.seconds for record in _whole(records) if not record.taken_from]
    return minutes(sum(own)) if len(own) > 1 else ""


def _precision(records: RunRecords) -> str:
    stages = (("pretraining", records.pretrain), ("fine-tuning", records.finetune))
    return ", ".join(f"{name} {facts['precision']}" for name, facts in stages if facts.get("precision"))


def _threshold(threshold: dict[str, Any]) -> str:
    if threshold["value"] is None:
        return "none could be chosen"
    return f"{threshold['value']:.4f}: {threshold['rule']}"


def _speed(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:.1f} ms per image at evaluation"


def _stage(name: str, record: Record | None) -> dict[str, str]:
    if record is None:
        none = "no record: the stage was called from Python"
        return {"name": name, "time": "–", "memory": "–", "made": none, "digest": ""}
    return {
        "name": name,
        "time": minutes(record.seconds),
        "memory": f"{record.peak_memory_mb:,.0f} MiB" if record.peak_memory_mb else "–",
        "digest": record.fingerprint,
        "made": f"taken over from {record.taken_from}" if record.taken_from else record.created[:16].replace("T", " "),
    }


def _whole(records: RunRecords) -> list[Record]:
    return [record for stage in reversed(STAGES) if (record := records.stages.get(stage))]


def _machine(records: RunRecords) -> list[str]:
    lines = []
    for record in _whole(records):
        facts = record.machine
        extra = [str(value) for key, value in facts.items() if key not in {"processor", "cores", "system"} and value]
        line = ", ".join(
            [f"{facts.get('processor', '?')}, {facts.get('cores', '?')} cores, {facts.get('system', '?')}", *extra]
        )
        if line not in lines:
            lines.append(line)
    return lines


def _versions(records: RunRecords) -> list[tuple[str, str]]:
    found: dict[str, list[str]] = {}
    for record in _whole(records):
        for name, version in record.versions.items():
            if version not in found.setdefault(name, []):
                found[name].append(version)
    return [(name, ", ".join(values)) for name, values in found.items()]


def _use(records: RunRecords) -> str:
    """The line that finds defects in new pictures; a run of a table lies where the table says."""
    words = shlex.split(_command(records).replace(" --out=", " --out "))
    out = words[words.index("--out") + 1] if "--out" in words[:-1] else f"reports/{records.recipe.name}"
    folder = shlex.quote(out) if words[:2] == ["ssl-defect", "run"] else "FOLDER_OF_THIS_RUN"
    return f"ssl-defect predict {folder} NEW_PICTURES --out predictions"


def _command(records: RunRecords) -> str:
    made = next((record.command for record in _whole(records) if record.command), "")
    return made or f"ssl-defect run {records.recipe.name}.yaml"
