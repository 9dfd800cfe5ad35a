"""The verdict in sentences and a few figures: what the detector does, and what pretraining did."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from ssl_defect.report.advice import cautions
from ssl_defect.report.figures import gauge, waffle
from ssl_defect.report.numbers import counted, hooked, interval, part, rate, share, shown, whole
from ssl_defect.report.records import RunRecords
from ssl_defect.report.steps import next_steps

WITHOUT = ("none", "imagenet")  # methods that only choose where training starts


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


def method_name(pretrain: dict[str, Any]) -> str:
    """The method of a pretraining's facts as papers write it."""
    return str(pretrain.get("title") or pretrain["method"])


def level_name(metrics: dict[str, Any]) -> str:
    """`'95%'`"""
    return f"{100 * metrics['interval']['level']:g}%"


def headline(metrics: dict[str, Any]) -> Markup:
    """The verdict: AUROC with its interval, and what the threshold finds and costs."""
    auroc, images = metrics["image"]["auroc"], metrics["counts"]["test"]
    if auroc["value"] is None:
        unseen = Markup("{} unseen {}").format(whole("counts.test", images), "image" if images == 1 else "images")
        why = auroc.get("why") or "the test images hold one class only"
        return Markup("On {} the detector cannot be judged: {}.").format(unseen, why.rstrip("."))
    first = Markup(
        "On {} unseen {} this detector separates defective from good with AUROC <strong>{}</strong> ({} interval {})."
    ).format(
        hooked("counts.test", images, f"{images:,}"),
        "image" if images == 1 else "images",
        hooked("image.auroc.value", auroc["value"], shown(auroc["value"], 2)),
        hooked("interval.level", metrics["interval"]["level"], level_name(metrics)),
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
        part("image.confusion.fp", "image.confusion.fp + image.confusion.tn", alarms, 100),
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
    ends = interval("pixel.iou", pixel["iou"], 2)
    return sentence + Markup("; at its pixel threshold its outlines overlap the drawn ones with IoU {}{}.").format(
        hooked("pixel.iou.value", iou, shown(iou, 2)), Markup(" ({})").format(ends) if ends else ""
    )


def pretraining(records: RunRecords) -> Markup:
    """What pretraining did to the encoder, by the probe before and after."""
    if records.finetune.get("task") == "classical":
        return Markup("No encoder and no pretraining: a classical detector (<strong>{}</strong>).").format(
            records.finetune.get("method", "")
        )
    facts = records.pretrain
    method, origin = facts["method"], facts.get("origin") or facts.get("start") or "random weights"
    if method in WITHOUT:
        return Markup("No self-supervised pretraining: the encoder started from <strong>{}</strong>.").format(origin)
    what = Markup("<strong>{}</strong>, {} from {}").format(
        method_name(facts), counted(facts["epochs"], "epoch"), origin
    )
    probe = facts.get("probe") or {}
    before, after = probe.get("before"), probe.get("after")
    if before is None or after is None:
        return what + "; no probe was measured before and after it."
    moved = Markup(", moved the {} from {} to <strong>{}</strong> ({})").format(
        probe.get("metric", "probe"), shown(before, 2), shown(after, 2), f"{after - before:+.2f}"
    )
    linear = facts.get("linear_probe") or {}
    first, last = linear.get("before"), linear.get("after")
    if first is None or last is None:
        return what + moved + ". " + _judged([after - before])
    also = Markup(" and the {} from {} to <strong>{}</strong> ({}). ").format(
        linear.get("metric", "linear probe"), shown(first, 2), shown(last, 2), f"{last - first:+.2f}"
    )
    return what + moved + also + _judged([after - before, last - first])


def _judged(changes: list[float]) -> str:
    """One sentence for one probe, or for two that may not agree."""
    signs = {(change >= 0.01) - (change <= -0.01) for change in changes}
    if {1, -1} <= signs:
        return "The two probes do not agree: whether it helped is not known."
    change = max(changes, key=abs)
    if change >= 0.01:
        return "One run and no interval: a hint that it helped, not a proof."
    if change > -0.01:
        return f"By {_these(changes)} it made no difference."
    return f"By {_these(changes)} it made the features worse."


def _these(changes: list[float]) -> str:
    return "these probes" if len(changes) > 1 else "this probe"


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
        ("defective", "fn", "tp", "escape", "found", "miss"),
        ("good", "fp", "tn", "are false alarms", "pass", "alarm"),
    )
    found = []
    for kind, wrong, right, verb, other, style in sides:
        total = cells[wrong] + cells[right]
        if not total:
            continue
        both = f"image.confusion.{wrong} + image.confusion.{right}"
        missed = part(f"image.confusion.{wrong}", both, cells[wrong] / total, 1000)
        seen = Markup("seen: {} of {}; the others {}{}").format(
            whole(f"image.confusion.{wrong}", cells[wrong]),
            hooked(both, total, f"{total:,}"),
            "are " if other == "found" else "",
            other,
        )
        found.append(
            {
                "text": Markup("Of 1,000 {} parts <strong>{}</strong> {}").format(kind, missed, verb),
                "detail": seen,
                "figure": waffle(
                    cells[wrong] / total, style, f"As squares of a hundred: the {kind} test images that {verb}"
                ),
            }
        )
    return found
