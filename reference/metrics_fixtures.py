"""Writes crates/eval/tests/fixtures/scikit_learn.json: what other implementations compute from random predictions.

    pip install numpy==2.4.6 scikit-learn==1.9.1 scipy==1.17.1
    python reference/metrics_fixtures.py

Confusion matrix, accuracy, precision, recall and F1 are scikit-learn's, undefined ones null; Wilson intervals are
scipy's. Specificity, the interval of F1, the intervals of macro averages and the rankings are computed here in another
way than the crate does: loops over samples, a numerical inversion of the score test, numerical derivatives.
"""

import json
import math
from pathlib import Path

import numpy as np
import scipy
import sklearn
from scipy.optimize import brentq
from scipy.stats import binomtest, norm
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

OUTPUT = Path(__file__).parent.parent / "crates/eval/tests/fixtures/scikit_learn.json"
Z = norm.ppf(0.975)


def finite(values):
    """JSON knows no NaN: undefined is null."""
    return [None if math.isnan(value) else float(value) for value in values]


def score_interval(successes, trials):
    """Inverts the score test numerically: the p whose distance from successes / trials is Z standard errors."""
    share = successes / trials
    excess = lambda p: (share - p) ** 2 - Z * Z * p * (1 - p) / trials
    # At 0 and 1 the excess is 0 whatever the share: the root that is sought lies inside.
    low = 0.0 if successes == 0 else brentq(excess, 0.0, min(share, 1 - 1e-9), xtol=1e-15)
    high = 1.0 if successes == trials else brentq(excess, max(share, 1e-9), 1.0, xtol=1e-15)
    return low, high


def wilson(successes, trials, confidence=0.95):
    interval = binomtest(int(successes), int(trials)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def class_metrics(matrix):
    """[4, K]: precision, sensitivity, specificity, F1 of each class of a matrix, from their textbook formulas."""
    true_positive = np.diag(matrix)
    false_negative = matrix.sum(1) - true_positive
    false_positive = matrix.sum(0) - true_positive
    true_negative = matrix.sum() - true_positive - false_negative - false_positive
    precision = true_positive / (true_positive + false_positive)
    sensitivity = true_positive / (true_positive + false_negative)
    specificity = true_negative / (true_negative + false_positive)
    return np.stack([precision, sensitivity, specificity, 2 * precision * sensitivity / (precision + sensitivity)])


def correlations(matrix):
    """[4, K, K]: correlations between classes, by the delta method on multinomial shares of matrix + 1/2."""
    smoothed = matrix + 0.5
    shares = (smoothed / smoothed.sum()).ravel()
    covariance = np.diag(shares) - np.outer(shares, shares)
    gradients = []
    for cell in range(shares.size):
        step = np.zeros_like(shares)
        step[cell] = 1e-6 * shares[cell]
        up, down = (class_metrics((shares + sign * step).reshape(matrix.shape)) for sign in (1, -1))
        gradients.append((up - down) / (2 * step[cell]))
    gradients = np.stack(gradients, axis=-1)
    result = []
    for gradient in gradients:
        between = gradient @ covariance @ gradient.T
        deviation = np.sqrt(np.diag(between))
        result.append(between / np.outer(deviation, deviation))
    return np.stack(result)


def macro_interval(values, intervals, correlation):
    values, lows, highs = np.array(values), np.array(intervals)[:, 0], np.array(intervals)[:, 1]
    down, up = values - lows, highs - values
    mean, classes = values.mean(), len(values)
    return [mean - math.sqrt(down @ correlation @ down) / classes, mean + math.sqrt(up @ correlation @ up) / classes]


def ranking(labels, predicted, probabilities, classes, count):
    confidence = [probabilities[i][predicted[i]] for i in range(len(labels))]
    lists = []
    for actual in range(classes):
        own = [i for i in range(len(labels)) if labels[i] == actual]
        best = sorted((i for i in own if predicted[i] == actual), key=lambda i: (-confidence[i], i))
        worst = sorted((i for i in own if predicted[i] != actual), key=lambda i: (-confidence[i], i))
        lists.append({"best": best[:count], "worst": worst[:count]})
    return lists


def case(name, seed, samples, classes, skill, absent=(), unsaid=(), steps=8):
    """Random labels and probabilities on a coarse grid, so that confidences tie; predicted is the first maximum."""
    generator = np.random.default_rng(seed)
    labels = generator.choice([c for c in range(classes) if c not in absent], samples)
    scores = generator.integers(1, steps, (samples, classes)).astype(float)
    scores[np.arange(samples), labels] += skill * steps * (generator.random(samples) < 0.7)
    scores[:, list(unsaid)] = 0.0
    probabilities = (scores / scores.sum(1, keepdims=True)).astype(np.float32)
    predicted = probabilities.argmax(1)
    matrix = confusion_matrix(labels, predicted, labels=range(classes))
    precision, sensitivity, f1, _ = precision_recall_fscore_support(
        labels, predicted, labels=range(classes), zero_division=np.nan)
    specificity, intervals = [], {"precision": [], "sensitivity": [], "specificity": [], "f1": []}
    for c in range(classes):
        right = sum(1 for a, p in zip(labels, predicted) if a != c and p != c)
        others = sum(1 for a in labels if a != c)
        hits = int(matrix[c, c])
        union = sum(1 for a, p in zip(labels, predicted) if a == c or p == c)
        specificity.append(right / others if others else math.nan)
        counts = {"precision": (hits, matrix[:, c].sum()), "sensitivity": (hits, matrix[c].sum()),
                  "specificity": (right, others)}
        for metric, (successes, trials) in counts.items():
            intervals[metric].append(wilson(successes, trials) if trials else None)
        jaccard = score_interval(hits, union) if union else None
        intervals["f1"].append(jaccard and [2 * j / (1 + j) for j in jaccard])
    values = {"precision": precision, "sensitivity": sensitivity, "specificity": specificity, "f1": f1}
    macro = {}
    for index, (metric, estimates) in enumerate(values.items()):
        if any(math.isnan(value) for value in estimates):
            macro[metric] = None
        else:
            macro[metric] = {"value": float(np.mean(estimates)),
                             "interval": macro_interval(estimates, intervals[metric], correlations(matrix)[index])}
    return {
        "name": name, "classes": classes,
        "labels": labels.tolist(), "predicted": predicted.tolist(), "probabilities": probabilities.ravel().tolist(),
        "confusion_matrix": matrix.tolist(),
        "accuracy": {"value": float(accuracy_score(labels, predicted)),
                     "interval": wilson(np.trace(matrix), samples)},
        **{metric: finite(estimates) for metric, estimates in values.items()},
        "intervals": intervals, "macro": macro,
        "ranking": ranking(labels.tolist(), predicted.tolist(), probabilities.tolist(), classes, 4),
    }


def main():
    cases = [
        case("two classes", 1, 120, 2, 1.0),
        case("two classes, chance", 2, 60, 2, 0.0),
        case("two classes, no error", 3, 25, 2, 9.0, steps=2),
        case("three classes", 4, 150, 3, 1.0),
        case("three classes, one absent", 5, 60, 3, 1.0, absent=(1,)),
        case("three classes, one never predicted", 6, 60, 3, 1.0, unsaid=(2,)),
        case("four classes, one neither", 7, 60, 4, 1.0, absent=(3,), unsaid=(3,)),
        case("one class only", 8, 20, 2, 1.0, absent=(0,)),
        case("five classes, ties", 9, 80, 5, 0.5, steps=3),
        case("one sample", 10, 1, 2, 1.0),
    ]
    proportions = [{"successes": s, "trials": n, "confidence": c, "interval": wilson(s, n, c)}
                   for c in (0.8, 0.9, 0.95, 0.99)
                   for s, n in ((0, 1), (1, 1), (0, 20), (1, 29), (5, 10), (15, 148), (81, 263), (515, 615),
                                (875, 885), (1390, 1500), (1500, 1500), (123456, 1000000))]
    versions = {"numpy": np.__version__, "scikit-learn": sklearn.__version__, "scipy": scipy.__version__}
    document = {"written_by": "reference/metrics_fixtures.py", "versions": versions, "cases": cases,
                "wilson": proportions}
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
