"""Writes crates/eval/tests/fixtures/statistics.json: curves, calibration and tests between models, by other programs.

    pip install numpy==2.4.6 scikit-learn==1.9.1 scipy==1.17.1 statsmodels==0.15.0
    python reference/statistics_fixtures.py

Curves, their areas and the Brier score are scikit-learn's, McNemar's test and Holm's correction statsmodels'. DeLong's
variances are computed from the definition, by the full matrix of pairs of images, by patient as Obuchowski has it
(`delong_fixtures.R` has pROC's), with Student's quantiles for patients less one;
temperatures are found by scipy's scalar minimiser, Newcombe's bounds by its root finder, calibration errors by loops.
"""

import json
import math
from pathlib import Path

import numpy as np
import scipy
import sklearn
import statsmodels
from scipy.optimize import brentq, minimize_scalar
from scipy.special import logsumexp
from scipy.stats import norm, t as student
from sklearn.metrics import (average_precision_score, brier_score_loss, precision_recall_curve, roc_auc_score,
                             roc_curve)
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

OUTPUT = Path(__file__).parent.parent / "crates/eval/tests/fixtures/statistics.json"
Z = norm.ppf(0.975)


def kernel(scores, positive):
    """[P, N]: 1 where the positive image has the larger score, 1/2 where the scores are equal."""
    one, other = scores[positive][:, None], scores[~positive][None, :]
    return (one > other) + 0.5 * (one == other)


def delong_covariance(pairs_a, pairs_b, positive, patients):
    """Obuchowski 1997, section 2, term by term; DeLong's where every image is a patient of its own."""
    of_positives, of_negatives = patients[positive], patients[~positive]
    m, n = len(of_positives), len(of_negatives)

    def sums(pairs, patient):
        placements = pairs.mean(1)[of_positives == patient], pairs.mean(0)[of_negatives == patient]
        return [float((values - pairs.mean()).sum()) for values in placements]

    everyone = sorted(set(patients.tolist()))
    i10, i01, both = len(set(of_positives.tolist())), len(set(of_negatives.tolist())), len(everyone)
    a, b = (np.array([sums(pairs, patient) for patient in everyone]) for pairs in (pairs_a, pairs_b))
    s10 = i10 / ((i10 - 1) * m) * (a[:, 0] * b[:, 0]).sum()
    s01 = i01 / ((i01 - 1) * n) * (a[:, 1] * b[:, 1]).sum()
    s11 = [both / (both - 1) * (x[:, 0] * y[:, 1]).sum() for x, y in ((a, b), (b, a))]
    return s10 / m + s01 / n + (s11[0] + s11[1]) / (m * n)


def newcombe(value, m, n):
    """Newcombe 2006, method 5: the areas from which `value` is exactly Z standard errors away."""
    half = (m + n) / 2 - 1
    variance = lambda t: t * (1 - t) * (1 + half * (1 - t) / (2 - t) + half * t / (1 + t)) / (m * n)
    excess = lambda t: (value - t) ** 2 - Z * Z * variance(t)
    # At 0 and 1 the variance is 0: for a value there, the root that is sought lies inside.
    low = 0.0 if value == 0 else brentq(excess, 0.0, min(value, 1 - 1e-9), xtol=1e-15)
    high = 1.0 if value == 1 else brentq(excess, max(value, 1e-9), 1.0, xtol=1e-15)
    return [low, high]


def curve_case(name, seed, samples, skill, steps, images_of_a_patient):
    """Two models' scores of the same images, on a grid of `steps` so that they tie (0: no grid)."""
    generator = np.random.default_rng(seed)
    positive = generator.random(samples) < 0.4
    positive[:2], positive[2:4] = True, False
    patients = np.arange(samples) // images_of_a_patient
    share = generator.normal(size=patients.max() + 1)[patients] * (images_of_a_patient > 1)
    both = []
    for model in range(2):
        scores = skill * positive * (1 + 0.3 * model) + generator.normal(size=samples) + share
        scores = 1 / (1 + np.exp(-scores))
        if skill > 50:
            scores = 0.25 + 0.5 * positive + 0.01 * model * generator.random(samples)
        both.append((np.round(scores * steps) / steps if steps else scores).astype(np.float32))
    models, pairs = [], []
    for scores in both:
        false_positive_rate, true_positive_rate, thresholds = roc_curve(positive, scores, drop_intermediate=False)
        precision, recall, pr_thresholds = precision_recall_curve(positive, scores)
        youden = int(np.argmax(np.round(true_positive_rate - false_positive_rate, 12)))
        pairs.append(kernel(scores, positive))
        auroc = roc_auc_score(positive, scores)
        variance = delong_covariance(pairs[-1], pairs[-1], positive, patients)
        if variance > 1e-15 and 0 < auroc < 1:
            smaller_side = min(len(set(patients[positive])), len(set(patients[~positive])))
            quantile = student.ppf(0.975, smaller_side - 1)
            logit, width = math.log(auroc / (1 - auroc)), quantile * math.sqrt(variance) / (auroc * (1 - auroc))
            interval = [1 / (1 + math.exp(-(logit + sign * width))) for sign in (-1, 1)]
        else:
            interval = newcombe(auroc, len(set(patients[positive])), len(set(patients[~positive])))
        models.append({
            "scores": scores.tolist(), "auroc": float(auroc), "interval": interval,
            "false_positive_rate": false_positive_rate.tolist(), "true_positive_rate": true_positive_rate.tolist(),
            "thresholds": thresholds[1:].tolist(),
            "average_precision": float(average_precision_score(positive, scores)),
            # By descending threshold, without the point at recall 0 that scikit-learn adds.
            "precision": precision[:-1][::-1].tolist(), "recall": recall[:-1][::-1].tolist(),
            "pr_thresholds": pr_thresholds[::-1].tolist(),
            "youden": [float(true_positive_rate[youden]), float(1 - false_positive_rate[youden])],
        })
    terms = [delong_covariance(pairs[a], pairs[b], positive, patients) for a, b in ((0, 0), (1, 1), (0, 1))]
    variance = terms[0] + terms[1] - 2 * terms[2]
    difference = models[1]["auroc"] - models[0]["auroc"]
    test = None
    if variance > 1e-15:
        error = math.sqrt(variance)
        test = {"difference": difference, "standard_error": error, "p": float(2 * student.sf(abs(difference) / error, len(set(patients)) - 1))}
    return {"name": name, "positive": positive.tolist(), "patients": patients.tolist(), "models": models, "test": test}


def calibration_case(name, seed, samples, classes, sharpness):
    """Probabilities `sharpness` times as sharp, in logits, as the labels that are drawn from them."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=1.5, size=(samples, classes))
    honest = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    labels = np.array([generator.choice(classes, p=row) for row in honest])
    sharp = sharpness * logits
    probabilities = np.exp(sharp - logsumexp(sharp, axis=1, keepdims=True)).astype(np.float32)
    predicted = probabilities.argmax(1)
    # Rows that add up to 1 only in float32 would be warned about.
    rows = probabilities.astype(np.float64)
    rows /= rows.sum(1, keepdims=True)
    brier = brier_score_loss(labels, rows, labels=range(classes), scale_by_half=True)
    bins = []
    confidence = probabilities[np.arange(samples), predicted].astype(np.float64)
    for index in range(15):
        inside = [i for i in range(samples) if index / 15 < confidence[i] <= (index + 1) / 15]
        bins.append({"images": len(inside),
                     "mean_confidence": float(np.mean(confidence[inside])) if inside else None,
                     "accuracy": float(np.mean(labels[inside] == predicted[inside])) if inside else None})
    error = sum(b["images"] * abs(b["accuracy"] - b["mean_confidence"]) for b in bins if b["images"]) / samples
    logs = np.log(probabilities.astype(np.float64))
    loss = lambda inverse: float(np.mean(logsumexp(inverse * logs, axis=1) - inverse * logs[range(samples), labels]))
    best = minimize_scalar(loss, bounds=(1e-3, 30), method="bounded", options={"xatol": 1e-12})
    return {"name": name, "classes": classes, "labels": labels.tolist(), "predicted": predicted.tolist(),
            "probabilities": probabilities.ravel().tolist(), "brier": float(brier), "bins": bins,
            "expected_calibration_error": float(error), "temperature": 1 / best.x,
            "loss_before": loss(1.0), "loss_after": best.fun}


def main():
    curves = [
        curve_case("no ties", 1, 120, 1.0, 0, 1),
        curve_case("ties", 2, 90, 1.0, 12, 1),
        curve_case("many ties", 3, 60, 0.8, 3, 1),
        curve_case("no skill", 4, 80, 0.0, 0, 1),
        curve_case("worse than chance", 5, 50, -0.7, 20, 1),
        curve_case("without error", 6, 40, 99.0, 0, 1),
        curve_case("patients with three images", 7, 150, 1.0, 0, 3),
        curve_case("patients with five images, ties", 8, 200, 1.2, 20, 5),
        curve_case("few images", 9, 9, 0.7, 0, 1),
    ]
    calibrations = [
        calibration_case("over-confident", 1, 150, 2, 2.5),
        calibration_case("honest", 2, 200, 2, 1.0),
        calibration_case("too cautious", 3, 150, 2, 0.4),
        calibration_case("three classes", 4, 120, 3, 1.8),
        calibration_case("five classes", 5, 120, 5, 0.7),
    ]
    disagreements = [(0, 0), (1, 0), (0, 6), (3, 3), (5, 12), (12, 5), (40, 61), (150, 86), (1000, 1100), (7, 30000)]
    mcnemars = [{"first": b, "second": c, "p": float(mcnemar([[10, b], [c, 10]], exact=True).pvalue)}
                for b, c in disagreements]
    generator = np.random.default_rng(11)
    families = [[0.01, 0.04, 0.03, 0.005], [0.5], [0.02, 0.02, 0.02], [1.0, 0.9, 0.0, 0.3, 1e-9],
                generator.random(20).tolist(), (generator.random(45) ** 6).tolist()]
    holms = [{"p": family, "corrected": multipletests(family, method="holm")[1].tolist()} for family in families]
    versions = {"numpy": np.__version__, "scikit-learn": sklearn.__version__, "scipy": scipy.__version__,
                "statsmodels": statsmodels.__version__}
    document = {"written_by": "reference/statistics_fixtures.py", "versions": versions, "curves": curves,
                "calibrations": calibrations, "mcnemar": mcnemars, "holm": holms}
    OUTPUT.write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
