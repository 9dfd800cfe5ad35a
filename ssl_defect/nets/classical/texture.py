"""Texture features and a classifier of scikit-learn.

What is saved are the features of the training pictures, their labels, the seed and the calibration: nothing is
pickled. On loading the classifier is fitted again, which takes a second and gives the same one with the same version
of scikit-learn; that is checked by what it says of some training pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssl_defect.errors import UserError
from ssl_defect.nets.classical.base import Fitted, Floats, Labelled, Method, Pixels, each, to_grey
from ssl_defect.nets.classical.features import describe

PENALTIES = (1.0, 10.0, 100.0)  # C of the support vector machine that cross-validation chooses from
FOLDS = 3
CHECKED = 32  # training pictures that a classifier fitted again must score as before
SAME = 1e-4


def make_classifier(name: str, penalty: float, seed: int) -> Any:
    """An unfitted classifier; both classes weigh the same in each (for AdaBoost by the weights given to `fit`)."""
    if name == "svm":
        from sklearn.svm import SVC

        return SVC(C=penalty, kernel="rbf", gamma="scale", class_weight="balanced")
    from sklearn.ensemble import AdaBoostClassifier, RandomForestClassifier

    if name == "adaboost":
        return AdaBoostClassifier(n_estimators=100, random_state=seed)
    return RandomForestClassifier(n_estimators=300, class_weight="balanced", random_state=seed, n_jobs=1)


def balance(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n,) weights that give each class half of the sum n."""
    counts = np.bincount(labels, minlength=2)
    return np.asarray(len(labels) / 2 / counts[labels], np.float64)


def fit_classifier(name: str, penalty: float, seed: int, x: Floats, labels: NDArray[np.int64]) -> Any:
    """A fitted classifier on standardised features (n, width)."""
    made = make_classifier(name, penalty, seed)
    return made.fit(x, labels, sample_weight=balance(labels)) if name == "adaboost" else made.fit(x, labels)


def raw_scores(name: str, classifier: Any, x: Floats) -> NDArray[np.float64]:
    """(n,) the signed distance from the border of an SVM, else the probability of being defective."""
    found = classifier.decision_function(x) if name == "svm" else classifier.predict_proba(x)[:, 1]
    return np.asarray(found, np.float64)


class Texture(Method):
    """Features, standardised by the training pictures, and a classifier: good or defective.

    Options:
        method: `lbp`, `glcm`, `gabor` or `texture`.
        classifier: `svm`, `adaboost` or `forest`.

    The border distance of the SVM becomes a probability by a sigmoid (Platt, Probabilistic outputs for support vector
    machines, 1999) that is fitted, as is C, on training pictures the SVM had not seen, in three folds that keep
    near-copies together. With fewer than three groups of a class there is no such sigmoid: C is 10, and the distance
    itself goes through 1 / (1 + exp(-d)).
    """

    def __init__(self, fitted: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        super().__init__(fitted, options)
        self.mean, self.std = np.asarray(fitted["mean"]), np.asarray(fitted["std"])
        self.slope, self.shift = float(fitted["slope"]), float(fitted["shift"])
        x, labels = self._standard(fitted["features"]), np.asarray(fitted["labels"])
        name = options["classifier"]
        self.classifier = fit_classifier(name, float(fitted["penalty"]), int(fitted["seed"]), x, labels)
        if "check" in fitted:
            apart = np.abs(self._scores(x[: len(fitted["check"])]) - fitted["check"]).max()
            if apart > SAME:
                raise UserError(
                    f"this detector's classifier comes out otherwise with the scikit-learn installed here (scores up "
                    f"to {apart:.2g} apart); install the version that fitted it, or run `ssl-defect finetune` again"
                )

    @classmethod
    def fit(cls, data: Labelled, options: Mapping[str, Any]) -> Fitted:
        """Features, labels, C and the sigmoid.

        Raises:
            UserError: there is only one class.
        """
        _require_both(data, options)
        found = _features(data.pictures, options["method"])
        mean, std = found.mean(axis=0), found.std(axis=0)
        fitted: Fitted = {"features": found, "labels": data.labels, "mean": mean, "std": np.where(std > 0, std, 1)}
        fitted |= {"seed": np.int64(data.seed), "penalty": np.float64(10)}
        fitted |= {"slope": np.float64(1), "shift": np.float64(0)}
        if options["classifier"] == "svm":
            fitted |= _calibrated(fitted, data)
        made = cls(fitted, options)
        return fitted | {"check": made._scores(made._standard(found[:CHECKED]))}

    def predict(self, pictures: Pixels) -> dict[str, Floats]:
        """-> "score" (B,)."""
        return {"score": self._scores(self.features(pictures))}

    def features(self, pictures: Pixels) -> Floats:
        """-> (B, width), standardised."""
        return self._standard(_features(pictures, self.options["method"]))

    def _standard(self, features: NDArray[Any]) -> Floats:
        return np.asarray((features - self.mean) / self.std, np.float32)

    def _scores(self, x: Floats) -> Floats:
        from scipy.special import expit

        name = self.options["classifier"]
        raw = raw_scores(name, self.classifier, x)
        return np.asarray(expit(self.slope * raw + self.shift) if name == "svm" else raw, np.float32)


def _features(pictures: Pixels, method: str) -> Floats:
    return np.stack(each(lambda grey: describe(grey, method), to_grey(pictures)))


def _require_both(data: Labelled, options: Mapping[str, Any]) -> None:
    found = np.unique(data.labels)
    if len(found) < 2:
        only = ("good", "defective")[int(found[0])] if len(found) else "missing"
        raise UserError(
            f"finetune: the labelled training images are all {only} and method '{options['method']}' needs good and "
            "defective ones; take the method golden, template, otsu or adaptive, or set data.protocol to supervised"
        )


def _calibrated(fitted: Fitted, data: Labelled) -> Fitted:
    """C of the best AUROC over pictures not seen, and slope and shift of Platt's sigmoid for it; {} where too few."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    if min(len(np.unique(data.groups[data.labels == label])) for label in (0, 1)) < FOLDS:
        return {}
    x = np.asarray((fitted["features"] - fitted["mean"]) / fitted["std"], np.float32)
    unseen = {penalty: _unseen(x, data, penalty) for penalty in PENALTIES}
    best = max(PENALTIES, key=lambda penalty: roc_auc_score(data.labels, unseen[penalty]))
    sigmoid = LogisticRegression(C=1.0, class_weight="balanced").fit(unseen[best][:, None], data.labels)
    slope = float(sigmoid.coef_[0, 0])
    if slope <= 0:  # nothing was learnt that holds for others; the order of the scores is kept all the same
        return {"penalty": np.float64(best)}
    return {"penalty": np.float64(best), "slope": np.float64(slope), "shift": np.float64(sigmoid.intercept_[0])}


def _unseen(x: Floats, data: Labelled, penalty: float) -> NDArray[np.float64]:
    """(n,) border distance of each picture by an SVM that saw neither it nor its near-copies."""
    from sklearn.model_selection import StratifiedGroupKFold

    found = np.zeros(len(x))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=data.seed)
    for seen, held in folds.split(x, data.labels, data.groups):
        fitted = fit_classifier("svm", penalty, data.seed, x[seen], data.labels[seen])
        found[held] = raw_scores("svm", fitted, x[held])
    return found
