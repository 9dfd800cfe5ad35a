"""What the nearest neighbours in feature space know of an image: a description of features, not of a detector."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from ssl_defect.evaluate.metrics import Array

NEIGHBOURS = 5
AT_ONCE = 512


def neighbour_auroc(features: Array, labels: Array, groups: Array, k: int = NEIGHBOURS) -> float | None:
    """AUROC in [0, 1] of the share of defective images among the k nearest neighbours of each image by the cosine.

    Neighbours come from the other images alone, and none from the image's own near-copy group, which would know the
    answer. Since an image's own class is then one group short among its neighbours, features that know nothing give a
    little less than 0.5, the less the fewer groups a class has. None where the labels are of one class, or an image
    has fewer than k others.

    Args:
        features: (n, width).
        labels: (n,) 0 good, above defective.
        groups: (n,) near-copy groups; negative: the image is its own.
    """
    bad, alone = labels > 0, np.arange(len(labels))
    groups = np.where(groups < 0, -1 - alone, groups)
    if not 0 < bad.sum() < len(bad) or len(bad) - np.unique(groups, return_counts=True)[1].max() < k:
        return None
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(norms > 0, norms, 1)
    shares = np.empty(len(bad))
    for start in range(0, len(bad), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        cosine = unit[part] @ unit.T
        cosine[groups[part, None] == groups[None]] = -np.inf
        shares[part] = bad[np.argpartition(-cosine, k - 1, axis=1)[:, :k]].mean(1)
    return float(roc_auc_score(bad, shares))
