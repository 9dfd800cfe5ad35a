"""What to beware of; what to do next is in `steps`."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from ssl_defect.report.numbers import counted, listed, share, shown
from ssl_defect.report.records import RunRecords

WIDE = 0.1  # an AUROC interval wider than this is said to be wide
FEW = 30  # test defects below this are said to be few
FEW_OF_CLASS = 10


def cautions(records: RunRecords) -> list[Markup]:
    """What a careful reader should know before believing the numbers; most weighty first."""
    found = [*_about_split(records), *_about_size(records.metrics), *_about_run(records)]
    return [Markup("{}").format(text) for text in found if text]


def _about_split(records: RunRecords) -> list[str]:
    leak, mixed = records.audit.get("leak") or {}, mixed_labels(records)
    leaked = leak.get("this_split_share")
    texts = []
    if records.metrics["protocol"].get("split") == "random":
        texts.append("The split is random, not by group: near-copies of test images may have been trained on.")
    if leaked:
        texts.append(f"{share(leaked)} of the test images have a near-copy in training, which flatters every number.")
    if not records.recipe.data.copies:
        texts.append("Near-copies were not searched for, so a leak between the splits cannot be ruled out.")
    if (records.audit.get("copies") or {}).get("undecided"):
        texts.append(
            "Nearly all pictures look alike: either every part looks the same, or there are dozens of each part; then "
            "near-copies of test images may have been trained on."
        )
    if mixed:
        groups = counted(len(mixed), "group")
        texts.append(f"{groups} of near-copies with different labels: some mistakes below may be errors of labelling.")
    return texts


def mixed_labels(records: RunRecords) -> list[dict[str, Any]]:
    """Groups of near-copies with different labels, as in `audit.json`."""
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
    if records.pretrain.get("warnings"):
        texts.append("Pretraining warned that it learned little; see Learning below.")
    if metrics["protocol"]["task"] == "segmentation" and not metrics.get("pixel"):
        texts.append("There are no pixel metrics: the test images have no usable masks.")
    if aside > 0.01 * (aside + usable):
        texts.append(f"{counted(aside, 'picture')} of {aside + usable:,} could not be used and were set aside.")
    return texts
