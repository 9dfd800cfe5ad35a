"""The verdict in sentences: what the detector does, what pretraining did, what to beware of, what to do next."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from ssl_defect.report.figures import gauge, waffle
from ssl_defect.report.numbers import counted, hooked, interval, listed, rate, share, shown
from ssl_defect.report.records import RunRecords

METHOD_NAMES = {"simclr": "SimCLR", "mae": "MAE"}
WITHOUT = ("none", "imagenet")  # methods that only choose where training starts
WIDE = 0.1  # an AUROC interval wider than this is said to be wide
FEW = 30  # test defects below this are said to be few
FEW_OF_CLASS = 10


def section(records: RunRecords) -> dict[str, Any]:
    """Everything that the top of the page shows."""
    return {
        "headline": headline(records.metrics),
        "pixels": pixel_sentence(records.metrics),
        "pretraining": pretraining(records),
        "tiles": tiles(records.metrics),
        "parts": parts(records.metrics),
        "cautions": cautions(records),
        "steps": next_steps(records),
    }


def method_name(method: str) -> str:
    """The method as papers write it."""
    return METHOD_NAMES.get(method, method)


def level_name(metrics: dict[str, Any]) -> str:
    """`'95%'`"""
    return f"{100 * metrics['interval']['level']:g}%"


def headline(metrics: dict[str, Any]) -> Markup:
    """The verdict: AUROC with its interval, and what the threshold finds and costs."""
    auroc, images = metrics["image"]["auroc"], metrics["counts"]["test"]
    if auroc["value"] is None:
        unseen = counted(images, "unseen image")
        why = auroc.get("why") or "the test images hold one class only"
        return Markup("On {} the detector cannot be judged: {}.").format(unseen, why.rstrip("."))
    first = Markup(
        "On {} unseen {} this detector separates defective from good with AUROC <strong>{}</strong> ({} interval {})."
    ).format(
        hooked("counts.test", images, f"{images:,}"),
        "image" if images == 1 else "images",
        hooked("image.auroc.value", auroc["value"], shown(auroc["value"], 2)),
        level_name(metrics),
        interval("image.auroc", auroc, 2),
    )
    return first + _at_threshold(metrics)


def _at_threshold(metrics: dict[str, Any]) -> Markup:
    recall, alarms = metrics["image"]["recall"]["value"], false_alarms(metrics)
    if metrics["threshold"]["value"] is None or recall is None or alarms is None:
        return Markup(" No threshold could be chosen, so it gives scores but no verdicts.")
    return Markup(
        " At the threshold chosen on {} it finds <strong>{}</strong> of the defective parts and raises "
        "<strong>{}</strong> false {} per 100 good ones."
    ).format(
        metrics["threshold"]["source"],
        hooked("image.recall.value", recall, share(recall)),
        rate(100 * alarms),
        "alarm" if rate(100 * alarms) == "1.0" else "alarms",
    )


def false_alarms(metrics: dict[str, Any]) -> float | None:
    """Share of the good test images called defective; None where there is no good one."""
    cells = metrics["image"]["confusion"]
    good = cells["fp"] + cells["tn"]
    return cells["fp"] / good if good else None


def pixel_sentence(metrics: dict[str, Any]) -> Markup:
    """How well defects are outlined, where that was measured."""
    pixel = metrics.get("pixel")
    if not pixel or pixel["aupro"]["value"] is None:
        return Markup("")
    text = Markup("Where the defect lies, it shows with AUPRO <strong>{}</strong> ({})")
    sentence = text.format(
        hooked("pixel.aupro.value", pixel["aupro"]["value"], shown(pixel["aupro"]["value"], 2)),
        interval("pixel.aupro", pixel["aupro"], 2),
    )
    iou = pixel["iou"]["value"]
    if iou is None:
        return sentence + "."
    return sentence + Markup("; at its pixel threshold its outlines overlap the drawn ones with IoU {}.").format(
        hooked("pixel.iou.value", iou, shown(iou, 2))
    )


def pretraining(records: RunRecords) -> Markup:
    """What pretraining did to the encoder, by the probe before and after."""
    facts = records.pretrain
    method, origin = facts["method"], facts.get("origin") or facts.get("start") or "random weights"
    if method in WITHOUT:
        return Markup("No self-supervised pretraining: the encoder started from <strong>{}</strong>.").format(origin)
    what = Markup("<strong>{}</strong>, {} from {}").format(
        method_name(method), counted(facts["epochs"], "epoch"), origin
    )
    probe = facts.get("probe") or {}
    before, after = probe.get("before"), probe.get("after")
    if before is None or after is None:
        return what + "; no probe was measured before and after it."
    moved = Markup(", moved the {} from {} to <strong>{}</strong> ({}).").format(
        probe.get("metric", "probe"), shown(before, 2), shown(after, 2), f"{after - before:+.2f}"
    )
    return what + moved + " " + _judged(after - before)


def _judged(change: float) -> str:
    if change >= 0.01:
        return "One run and no interval: a hint that it helped, not a proof."
    if change > -0.01:
        return "By this probe it made no difference."
    return "By this probe it made the features worse."


def tiles(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures beside the verdict: name, value, interval and gauge."""
    image, pixel = metrics["image"], metrics.get("pixel")
    wanted = [
        ("AUROC", "image.auroc", image["auroc"], "chance is 0.5"),
        ("Average precision", "image.ap", image["ap"], "area under precision-recall"),
        ("Recall", "image.recall", image["recall"], "defective parts found"),
        ("Precision", "image.precision", image["precision"], "alarms that are real"),
    ]
    if pixel:
        wanted[3] = ("AUPRO", "pixel.aupro", pixel["aupro"], "overlap of regions")
    found = []
    for name, path, entry, note in wanted:
        value = entry["value"]
        found.append(
            {
                "name": name,
                "value": hooked(f"{path}.value", value, shown(value, 3)),
                "interval": interval(path, entry),
                "gauge": gauge(value, entry["low"], entry["high"]) if value is not None else "",
                "note": note if value is not None else entry.get("why", "undefined"),
            }
        )
    return found


def parts(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """Escapes per 1,000 defective parts and false alarms per 1,000 good ones, each as a hundred squares."""
    cells = metrics["image"]["confusion"]
    sides = (
        ("defective", cells["fn"], cells["tp"], "escape", "found", "miss"),
        ("good", cells["fp"], cells["tn"], "are false alarms", "pass", "alarm"),
    )
    found = []
    for kind, wrong, right, verb, other, style in sides:
        if not wrong + right:
            continue
        part = wrong / (wrong + right)
        text = Markup("Of 1,000 {} parts <strong>{}</strong> {}").format(kind, rate(1000 * part), verb)
        detail = f"seen: {wrong} of {wrong + right}; the others are {other}" if other == "found" else ""
        found.append(
            {
                "text": text,
                "detail": detail or f"seen: {wrong} of {wrong + right}; the others {other}",
                "figure": waffle(part, style, f"{share(part)} of the {kind} test images {verb}"),
            }
        )
    return found


def cautions(records: RunRecords) -> list[Markup]:
    """What a careful reader should know before believing the numbers; most weighty first."""
    found = [*_about_split(records), *_about_size(records.metrics), *_about_run(records)]
    return [Markup("{}").format(text) for text in found if text]


def _about_split(records: RunRecords) -> list[str]:
    leak, mixed = records.audit.get("leak") or {}, _mixed(records)
    leaked = leak.get("this_split_share")
    texts = []
    if records.metrics["protocol"].get("split") == "random":
        texts.append("The split is random, not by group: near-copies of test images may have been trained on.")
    if leaked:
        texts.append(f"{share(leaked)} of the test images have a near-copy in training, which flatters every number.")
    if not records.recipe.data.copies:
        texts.append("Near-copies were not searched for, so a leak between the splits cannot be ruled out.")
    if mixed:
        groups = counted(len(mixed), "near-copy group")
        texts.append(f"{groups} carry different labels; some of the mistakes below may be errors of labelling.")
    return texts


def _mixed(records: RunRecords) -> list[dict[str, Any]]:
    return list((records.audit.get("copies") or {}).get("mixed_labels") or [])


def _about_size(metrics: dict[str, Any]) -> list[str]:
    auroc, bad = metrics["image"]["auroc"], metrics["counts"]["defective"]
    texts = []
    if auroc["low"] is not None and auroc["low"] <= 0.5:
        texts.append("The interval of AUROC reaches 0.5: the detector is not shown to be better than chance.")
    elif auroc["low"] is not None and auroc["high"] - auroc["low"] > WIDE:
        width = shown(auroc["high"] - auroc["low"], 2)
        texts.append(f"The interval of AUROC is wide ({width}): smaller differences cannot be seen on this test set.")
    if bad < FEW:
        texts.append(f"Only {counted(bad, 'defective image')} in the test set.")
    classes = metrics.get("classes") or {}
    few = [f"{name} ({facts['images']})" for name, facts in classes.items() if facts["images"] < FEW_OF_CLASS]
    if few and bad >= FEW:
        texts.append(f"Few test images of {listed(few)}: read the figures of these classes with care.")
    return texts


def _about_run(records: RunRecords) -> list[str]:
    audit, metrics = records.audit, records.metrics
    aside, usable = len(audit.get("set_aside") or []), audit["usable"]
    texts = []
    if records.pretrain.get("collapsed"):
        texts.append("Pretraining collapsed: all embeddings became alike. Its encoder is of little use.")
    if metrics["protocol"]["task"] == "segmentation" and not metrics.get("pixel"):
        texts.append("There are no pixel metrics: the test images have no usable masks.")
    if aside > 0.01 * (aside + usable):
        texts.append(f"{counted(aside, 'picture')} of {aside + usable:,} could not be used and were set aside.")
    return texts


def next_steps(records: RunRecords) -> list[Markup]:
    """What would help most, from the records alone."""
    steps = [_weakest(records), _relabel(records), _longer(records)]
    if records.metrics["counts"]["defective"] < FEW:
        steps.append(Markup("Collect more defective parts for the test set: they narrow the intervals most."))
    return [step for step in steps if step]


def _weakest(records: RunRecords) -> Markup:
    recalls = [
        (facts["image"]["recall"]["value"], name)
        for name, facts in (records.metrics.get("classes") or {}).items()
        if facts["images"] >= FEW_OF_CLASS and facts["image"]["recall"]["value"] is not None
    ]
    if len(recalls) < 2 or min(recalls)[0] > 0.95:
        return Markup("")
    recall, name = min(recalls)
    labels = (records.finetune.get("labels") or {}).get(name)
    had = f"; it was trained with {counted(labels, 'label')}" if labels is not None else ""
    return Markup("Label more of <strong>{}</strong>: of all classes it escapes most ({} found{}).").format(
        name, share(recall), had
    )


def _relabel(records: RunRecords) -> Markup:
    if not (mixed := _mixed(records)):
        return Markup("")
    text = 'Look at the {} whose near-copies disagree (<a href="#data">listed below</a>) and settle their labels.'
    return Markup(text).format(counted(len(mixed), "group"))


def _longer(records: RunRecords) -> Markup:
    facts, steps = records.finetune, records.recipe.finetune.steps
    if facts.get("stopped_early") or facts.get("best_step") is None or facts["best_step"] < 0.95 * steps:
        return Markup("")
    return Markup("Train longer: validation was still best at the last look (finetune.steps is {}).").format(steps)
