"""Detectors that know good parts alone: name -> (module, one line)."""

DETECTORS = {
    "patchcore": ("ssl_defect.nets.anomaly.patchcore", "A memory of patches of good parts, and the nearest of them."),
    "padim": ("ssl_defect.nets.anomaly.padim", "A Gaussian of the features of good parts in every place."),
    "gaussian": ("ssl_defect.nets.anomaly.pooled", "One Gaussian of the pooled features of good parts: no map."),
    "knn": ("ssl_defect.nets.anomaly.pooled", "The nearest good parts by their pooled features: no map."),
}
