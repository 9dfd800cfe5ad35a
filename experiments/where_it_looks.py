"""Does what the report shows as "where it looked" lie on the defect? Grad-CAM and relevance against known masks.

    python experiments/where_it_looks.py
    python experiments/where_it_looks.py --root magnetic_tile=../shared/data/magnetic_tile

A classifier learns from labels of whole pictures; no mask is ever shown to it. What its explanation gives each pixel of
a defective test image is then held against the mask: AUROC and average precision within the image, and the pointing
game (Zhang et al., Top-down neural attention by excitation backprop, IJCV 2018): does the largest value lie on the
defect, or within half a patch of it, since a map of a few places cannot point finer. Means over images, intervals over
near-copy groups.

Beside them stand what a map can reach at that coarseness (the mask itself, averaged over the places), and controls: the
same explanations of a net with random weights, which must not look alike (Adebayo et al., Sanity checks for saliency
maps, NeurIPS 2018); attention without gradients (Abnar & Zuidema, ACL 2020); a bump in the middle; noise.

Killed and started again, it takes the finished stages as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import blobs
import cv2
import numpy as np
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from ssl_defect import pipeline
from ssl_defect.artifacts import machine, read_json, versions, write_json
from ssl_defect.config import Recipe, load_recipe
from ssl_defect.data.store import Store, open_store
from ssl_defect.evaluate import relevance as vit
from ssl_defect.evaluate.bootstrap import Resampling, intervals, paired_difference
from ssl_defect.evaluate.gradcam import gradcam
from ssl_defect.evaluate.inference import Runner
from ssl_defect.evaluate.metrics import Array, Family
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.detector import Detector, load_detector

HERE = Path(__file__).resolve().parent
TRAINING = {  # from scratch: the whole net learns as its head does
    "vit": "eval_every: 25, patience: 50, learning_rate: 0.003, encoder_learning_rate: 0.003, weight_decay: 0.05, "
    "options: {dropout: 0.0}",
    "cnn": "eval_every: 50, encoder_learning_rate: 0.001",
}
PLACE = 16  # pixels, side of a patch
BATCH = 32
MEASURES = ("AUROC", "AP", "pointing", "pointing nearby")
DRAWS = Resampling()
Maps = dict[str, Array]  # explanation -> (n, S, S)


def measures(maps: Array, masks: Array, near: int = PLACE // 2) -> dict[str, Array]:
    """What maps (n, S, S) tell of masks (n, S, S) of 0 and 1, image by image: each (n,) in [0, 1].

    NaN in the masks' stead where a mask is empty or full. Where several pixels share the largest value, the pointing
    game is won by the share of them that hit. `near`: pixels that a point may lie beside the mask.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * near + 1, 2 * near + 1))
    found: dict[str, list[float]] = {name: [] for name in MEASURES}
    for one, mask in zip(maps, masks, strict=True):
        inside = mask > 0
        told = inside.any() and not inside.all()
        top = one == one.max()
        wide = cv2.dilate(mask.astype(np.uint8), kernel) > 0
        values = (
            roc_auc_score(inside.ravel(), one.ravel()) if told else np.nan,
            average_precision_score(inside.ravel(), one.ravel()) if told else np.nan,
            inside[top].mean() if told else np.nan,
            wide[top].mean() if told else np.nan,
        )
        for name, value in zip(MEASURES, values, strict=True):
            found[name].append(float(value))
    return {name: np.array(values) for name, values in found.items()}


def means(values: dict[str, Array]) -> Family:
    """Means over images as a function of the images' weights, for intervals over groups."""
    return lambda weights: {name: weights @ value / weights.sum(1) for name, value in values.items()}


def in_places(masks: Array, place: int = PLACE) -> Array:
    """Masks (n, S, S) as the best map of S / place x S / place places shows them, enlarged like an explanation."""
    small = torch.nn.functional.avg_pool2d(torch.from_numpy(masks[:, None].astype(np.float32)), place)
    large = torch.nn.functional.interpolate(small, size=masks.shape[-2:], mode="bilinear")
    found: Array = large[:, 0].numpy()
    return found


def in_the_middle(masks: Array) -> Array:
    """A Gaussian in the middle of each picture, a quarter of its side wide."""
    side = masks.shape[-1]
    line = np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (side / 4)) ** 2)
    return np.broadcast_to(np.outer(line, line), masks.shape)


def attention_alone(detector: Detector, x: Tensor) -> Array:
    """Attention rollout (Abnar & Zuidema, equation 1, up to a factor): as relevance with every gradient 1."""
    blocks = vit.attention_blocks(detector)
    found = []
    for picture in x:
        with torch.no_grad(), vit.exposed(detector, blocks) as (attentions, _):
            detector(picture[None])
        rolled = vit.rollout([a[0] for a in attentions], [torch.ones_like(a[0]) for a in attentions])
        prefix = detector.encoder.body.num_prefix_tokens
        found.append(vit.enlarged(rolled[prefix:, prefix:].mean(0), x.shape[-1]))
    return np.stack(found)


def shown_ways(detector: Detector) -> dict[str, Callable[[Tensor], Array]]:
    """What the report shows of a detector, by name."""
    found: dict[str, Callable[[Tensor], Array]] = {"Grad-CAM": lambda x: gradcam(detector, x)}
    if detector.encoder.is_vit:
        found["relevance"] = lambda x: np.asarray(vit.relevance(detector, x))
    return found


def explained(detector: Detector, runner: Runner, store: Store, rows: Array, seed: int) -> Maps:
    """Every explanation of the pictures in `rows`, and the same of a net of random weights."""
    torch.manual_seed(seed)
    random = Detector(build_encoder(detector.spec.backbone, detector.spec.image_size), detector.spec).eval()
    ways = shown_ways(detector)
    if detector.encoder.is_vit:
        ways["attention without gradients"] = lambda x: attention_alone(detector, x)
    ways |= {f"{name}, random weights": way for name, way in shown_ways(random).items()}
    parts = [runner.pictures(store, rows[i : i + BATCH]) for i in range(0, len(rows), BATCH)]
    return {name: np.concatenate([way(part) for part in parts]) for name, way in ways.items()}


def controls(masks: Array, seed: int) -> Maps:
    """What no net gives."""
    noise = np.random.default_rng(seed).random(masks.shape)
    return {"the mask in places": in_places(masks), "a bump in the middle": in_the_middle(masks), "noise": noise}


def recipe_of(options: argparse.Namespace, pictures: str, net: str) -> Recipe:
    """`--set` comes last."""
    task = f"{{task: classification, steps: {options.steps[net]}, {TRAINING[net]}}}"
    lines = [f"name={pictures}-{net}", f"seed={options.seed}", f"data.image_size={options.size}"]
    lines += [f"model.backbone={options.nets[net]}", "pretrain={method: none}", f"finetune={task}"]
    lines += ["compute.threads=1", "evaluate.embeddings=false", "evaluate.gradcam=0"]
    if pictures == "blobs":
        root = blobs.write(options.out / "pictures", options.size, options.good, options.defective, options.seed)
        lines += [f"data={{source: mvtec, root: {root}, image_size: {options.size}, copies: false}}"]
        return load_recipe(HERE / "mvtec.yaml", [*lines, *options.settings])
    lines.append(f"data.root={options.roots[pictures]}")
    return load_recipe(HERE / f"{pictures}.yaml", [*lines, *options.settings])


def work(recipe: Recipe, out: Path, options: argparse.Namespace) -> dict[str, object]:
    """Train (or take what is there) and measure: the classifier's AUROC and, if it learned, every explanation's."""
    pipeline.run(recipe, out, "prepare", "evaluate")
    image = read_json(out / "evaluate" / "metrics.json")["image"]["auroc"]
    found: dict[str, object] = {"image auroc": image, "learned": (image["low"] or 0) > options.least}
    if not found["learned"]:
        return found
    store = open_store(out / "prepare")
    runner = Runner(load_detector(out / "finetune" / "model.safetensors"), recipe.compute)
    masks = np.asarray(store.masks)
    rows = np.array([row for row in store.rows(options.split) if masks[row].any()])
    rows = np.sort(np.random.default_rng(options.seed).permutation(rows)[: options.images])
    maps = explained(runner.detector, runner, store, rows, options.seed + 1) | controls(masks[rows], options.seed)
    told = {name: measures(one, masks[rows]) for name, one in maps.items()}
    groups = store.groups[rows]
    found["images"], found["groups"] = len(rows), len(np.unique(groups))
    found["explanations"] = {name: intervals(means(values), groups, DRAWS) for name, values in told.items()}
    found["against Grad-CAM"] = {
        name: paired_difference(means(values), means(told["Grad-CAM"]), groups, DRAWS)
        for name, values in told.items()
        if name not in ("Grad-CAM", "the mask in places")
    }
    return found


def shown(one: dict[str, object], sign: str = "") -> str:
    """A value with its interval; a difference in bold where zero is left out."""
    if one["value"] is None:
        return "-"
    value, low, high = (one[key] for key in ("value", "low", "high"))
    if low is None:
        return f"{value:{sign}.3f}"
    text = f"{value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"
    return f"**{text}**" if sign and (low > 0 or high < 0) else text  # type: ignore[operator]


def table(found: dict[str, dict[str, object]]) -> list[str]:
    """Markdown: the values of every net and explanation, then the differences from Grad-CAM."""
    lines = []
    for key, head, sign in (("explanations", "explanation", ""), ("against Grad-CAM", "less Grad-CAM", "+")):
        lines += ["", f"| net | image AUROC | {head} | " + " | ".join(MEASURES) + " |"]
        lines.append("|---" * (3 + len(MEASURES)) + "|")
        for net, one in found.items():
            image = shown(one["image auroc"])  # type: ignore[arg-type]
            if not one["learned"]:
                lines.append(f"| {net} | {image} | did not learn, not looked at |" + " |" * len(MEASURES))
                continue
            for name, values in one[key].items():  # type: ignore[attr-defined]
                cells = " | ".join(shown(values[measure], sign) for measure in MEASURES)
                lines.append(f"| {net} | {image} | {name} | {cells} |")
    return lines[1:]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--root", action="append", default=[], metavar="SET=FOLDER", help="magnetic_tile=..., synthetic=..."
    )
    parser.add_argument("--out", type=Path, default=Path("reports") / "where_it_looks")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--vit", default="test_vit")
    parser.add_argument("--cnn", default="test_resnet")
    parser.add_argument("--steps", type=int, nargs=2, default=[350, 150], help="of training, ViT and CNN")
    parser.add_argument("--good", type=int, default=600, help="drawn pictures of good parts")
    parser.add_argument("--defective", type=int, default=600, help="drawn pictures of defective ones")
    parser.add_argument("--split", default="test", choices=["val", "test"], help="val: to choose anything by")
    parser.add_argument("--images", type=int, default=120, help="defective images that are looked at, at most")
    parser.add_argument("--least", type=float, default=0.7, help="image AUROC that the interval must exceed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    options.roots = dict(pair.split("=", 1) for pair in options.root)
    if set(options.roots) - {"magnetic_tile", "synthetic"}:
        parser.error("--root: accepted are magnetic_tile=FOLDER and synthetic=FOLDER, an empty one")
    options.nets = {"vit": options.vit, "cnn": options.cnn}
    options.steps = dict(zip(options.nets, options.steps, strict=True))
    return options


def main() -> None:
    options = parse()
    found = {}
    for pictures in ("blobs", *options.roots):
        for net, backbone in options.nets.items():
            recipe = recipe_of(options, pictures, net)
            found[f"{backbone}, {pictures}"] = work(recipe, options.out / recipe.name, options)
    lines = table(found)
    about = f"{options.size} px, places of {PLACE} px, seed {options.seed}, {options.split} images"
    lines += ["", f"{about}; {machine()['processor']}, one thread."]
    (options.out / "where_it_looks.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_json(options.out / "where_it_looks.json", {"machine": machine(), "versions": versions(), "runs": found})
    print("\n".join(lines))


if __name__ == "__main__":
    main()
