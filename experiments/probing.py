"""How much an encoder knows of the defects, before any fine-tuning: kNN and linear probe on test images.

Other scripts of this folder import it: `from probing import features, knn_auroc, linear_auroc`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from ssl_defect.config import Recipe
from ssl_defect.data.store import open_store
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.weights import load_encoder_file, load_start
from ssl_defect.pretrain.probe import Probe, neighbour_scores
from ssl_defect.train.device import lay_out, make_fabric

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # of which the linear probe takes the best on folds of the training images
FOLDS = 3


def features(
    encoder_file: Path | None,
    recipe: Recipe,
    prepared: Path,
    seed: int,
    threads: int,
    images: np.ndarray | None = None,
) -> np.ndarray:
    """Pooled features (N, width) of all pictures of a prepared set, in evaluation mode, float32.

    Args:
        encoder_file: `encoder.safetensors` of a pretraining; None for the backbone as it would begin: untrained from
            that seed, or with the weights that `pretrain.start` names.
        recipe: its `model`, `pretrain.start` and `compute` are used.
        prepared: a finished prepare folder.
        seed: of the untrained weights.
        threads: CPU threads.
        images: uint8 (N, S, S, C) to be seen in place of the prepared ones.
    """
    store = open_store(Path(prepared))
    store = store if images is None else replace(store, images=images)
    torch.manual_seed(seed)
    encoder = build_encoder(recipe.model.backbone, store.images.shape[1])
    if encoder_file is None:
        load_start(encoder, recipe.pretrain.start)
    else:
        load_encoder_file(encoder, Path(encoder_file))
    fabric = make_fabric(recipe.compute.model_copy(update={"threads": threads}), encoder)
    encoder = fabric.to_device(lay_out(encoder))
    found: np.ndarray = Probe(store, fabric).features(encoder, np.arange(len(store.samples))).numpy()
    return found


def knn_auroc(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    fit_rows: np.ndarray,
    test_rows: np.ndarray,
    k: int = 20,
) -> float:
    """AUROC in [0, 1] of the weighted vote of the k nearest `fit_rows` (Wu et al. 2018, eq. 12), as the online probe.

    Args:
        features: (N, D); labels: (N,) 0 or 1; groups: (N,), near-copies share a number >= 0 and never vote.
        fit_rows, test_rows: row numbers; both classes must be among the test rows.
        k: neighbours, at most half of the fit rows.
    """
    found, marks = torch.from_numpy(np.asarray(features, np.float32)), torch.from_numpy(labels)
    copies = (groups[test_rows][:, None] == groups[fit_rows][None, :]) & (groups[test_rows] >= 0)[:, None]
    k = max(1, min(k, len(fit_rows) // 2))
    scores = neighbour_scores(found[fit_rows], marks[fit_rows], found[test_rows], k, torch.from_numpy(copies))
    return float(roc_auc_score(labels[test_rows], scores.numpy()))


def linear_auroc(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, fit_rows: np.ndarray, test_rows: np.ndarray
) -> float:
    """AUROC in [0, 1] of a logistic regression on standardised features, both fitted on `fit_rows` alone.

    Its regularisation is the best of `STRENGTHS` by AUROC on folds of the fit rows that keep groups together. Where a
    class has fewer groups than there are folds, the middle one is taken. Arguments as in `knn_auroc`.
    """
    apart = np.where(groups < 0, -1 - np.arange(len(groups)), groups)
    x, y, own = features[fit_rows].astype(np.float64), labels[fit_rows], apart[fit_rows]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTHS[2], class_weight="balanced", max_iter=5000))
    with threadpool_limits(1):
        if min(len(np.unique(own[y == label])) for label in (0, 1)) >= FOLDS:
            choices = {"logisticregression__C": STRENGTHS}
            folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
            model = GridSearchCV(model, choices, scoring="roc_auc", cv=folds)
            model.fit(x, y, groups=own)
        else:
            model.fit(x, y)
        scores = model.decision_function(features[test_rows].astype(np.float64))
    return float(roc_auc_score(labels[test_rows], scores))
