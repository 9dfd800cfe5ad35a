"""Detectors that know good parts alone: name -> (module, one line)."""

DETECTORS = {
    "patchcore": ("ssl_defect.nets.anomaly.patchcore", "A memory of patches of good parts, and the nearest of them."),
    "padim": ("ssl_defect.nets.anomaly.padim", "A Gaussian of the features of good parts in every place."),
    "gaussian": ("ssl_defect.nets.anomaly.pooled", "One Gaussian of the pooled features of good parts: no map."),
    "knn": ("ssl_defect.nets.anomaly.pooled", "The nearest good parts by their pooled features: no map."),
    "reverse_distillation": (
        "ssl_defect.nets.anomaly.reverse_distillation",
        "A student that rebuilds the encoder's maps of good parts from one embedding.",
    ),
    "autoencoder": (
        "ssl_defect.nets.anomaly.autoencoder",
        "A small autoencoder of pixels: what it cannot paint is not good. It needs no encoder.",
    ),
    "mae": (
        "ssl_defect.nets.anomaly.masked",
        "Hidden patches painted from the encoder's features of the others, and the error.",
    ),
    "simplenet": ("ssl_defect.nets.anomaly.simplenet", "Features of good patches against the same with noise."),
    "glass": ("ssl_defect.nets.anomaly.glass", "Features of good patches against climbing noise and drawn defects."),
    "synthetic": ("ssl_defect.nets.anomaly.synthetic", "A decoder that outlines synthetic defects on good parts."),
    "one_class_svm": ("ssl_defect.nets.anomaly.one_class_svm", "A border around the pooled features: no map."),
    "isolation_forest": ("ssl_defect.nets.anomaly.isolation_forest", "Random cuts of the pooled features: no map."),
}
