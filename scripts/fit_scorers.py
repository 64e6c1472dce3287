"""Fit the few coefficients of the embedded backend on sets labelled by people.

    python scripts/fit_scorers.py --data DIR [--model FOLDER] [--write]

Prints cross-validated figures (groups are documents or questions, so that no text is on both
sides), then fits on all rows; `--write` puts the coefficients into the package.
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.stats import rankdata, spearmanr

from ftreg.scoring import faithfulness
from ftreg.scoring.backends.embedded import PENALTIES, EmbeddedBackend, MiniLM, Weights
from ftreg.scoring.backends.evidence import FEATURES
from ftreg.scoring.backends.relevance import RELEVANCE_FEATURES
from ftreg.scoring.claims import claims
from ftreg.scoring.completeness import key_points
from ftreg.scoring.protocol import BackendError, Inquiry, Relation
from ftreg.store import write_json

WEIGHTS_FILE = Path(__file__).parents[1] / "ftreg/scoring/backends/embedded_weights.json"
FOLDS, REPEATS, RIDGE = 5, 3, 0.0005
SETS = {
    Relation.SUPPORTED: ("qags_cnndm", "q2_wow"),
    Relation.COVERED: ("realsumm", "sfres"),
    Relation.RELEVANT: ("wikiqa",),
}
NAMES = {
    Relation.SUPPORTED: FEATURES,
    Relation.COVERED: FEATURES,
    Relation.RELEVANT: RELEVANCE_FEATURES,
}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file of labelled rows."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def cluster(name: str, row: dict[str, Any]) -> str:
    """Return what rows share that are not independent: the document, dialogue or question."""
    if name == "wikiqa":
        return str(row["input"])
    if name == "sfres":
        return str(row["context"])
    if name == "realsumm":
        return re.sub(r"^.*-", "", row["id"])
    if name == "q2_wow":
        return str(row["context"])
    return str(row["id"])


def inquiry(relation: Relation, row: dict[str, Any]) -> Inquiry:
    """Return what the scorer of a relation would ask about a row."""
    match relation:
        case Relation.SUPPORTED:
            return Inquiry(claims(row["output"]), row["context"])
        case Relation.COVERED:
            return Inquiry(key_points(row["reference"]), row["output"])
        case Relation.RELEVANT:
            return Inquiry(claims(row["output"]), row["input"])


@dataclass(frozen=True)
class LabelledSet:
    """The evidence of a set: one row per point, and which example each point belongs to."""

    name: str
    features: np.ndarray  # (points, features)
    penalty: np.ndarray  # (points,)
    starts: np.ndarray  # (examples,): where each example's points begin
    labels: np.ndarray  # (examples,)
    clusters: np.ndarray  # (examples,)

    def subset(self, kept: np.ndarray) -> "LabelledSet":
        """Return the examples for which the mask `kept` holds."""
        counts = np.diff(self.starts, append=len(self.penalty))
        points = np.repeat(kept, counts)
        starts = np.concatenate([[0], np.cumsum(counts[kept])[:-1]])
        return LabelledSet(
            self.name, self.features[points], self.penalty[points], starts,
            self.labels[kept], self.clusters[kept],
        )  # fmt: skip

    def predict(self, relation: Relation, parameters: np.ndarray) -> np.ndarray:
        """Return the score of each example, as the scorer would give it."""
        bias, weights = parameters[0], parameters[1:]
        most = 1 + np.exp(-(bias + weights.sum()))
        support = self.penalty * np.minimum(1, most / (1 + np.exp(-(bias + self.features @ weights))))
        counts = np.diff(self.starts, append=len(self.penalty))
        if relation is not Relation.SUPPORTED:
            return np.add.reduceat(support, self.starts) / counts
        floor = faithfulness.UNSUPPORTED
        counted = np.maximum(0, support - floor) / (1 - floor)
        share = np.add.reduceat(counted, self.starts) / counts
        weakest = np.minimum.reduceat(support, self.starts)
        return (1 - faithfulness.WEAKEST) * share + faithfulness.WEAKEST * weakest


def gather(relation: Relation, name: str, data: Path, backend: EmbeddedBackend) -> LabelledSet:
    """Work out the evidence for every row of a set that has points and a text to judge by."""
    rows = read_rows(data / f"{name}.jsonl")
    asked = [(row, inquiry(relation, row)) for row in rows]
    asked = [(row, ask) for row, ask in asked if ask.points]
    found = backend.evidence(relation, [ask for _, ask in asked])
    kept = [
        (row, evidence)
        for (row, _), evidence in zip(asked, found, strict=True)
        if not isinstance(evidence, BackendError)
    ]
    print(f"{name}: {len(kept)} of {len(rows)} rows")
    points = [piece for _, evidence in kept for piece in evidence]
    counts = [len(evidence) for _, evidence in kept]
    return LabelledSet(
        name,
        np.array([piece.features for piece in points]),
        np.array([np.prod([PENALTIES[relation][check] for check in piece.checks]) for piece in points]),
        np.concatenate([[0], np.cumsum(counts)[:-1]]),
        np.array([float(row["label"]) for row, _ in kept]),
        np.array([cluster(name, row) for row, _ in kept]),
    )


def agreement(relation: Relation, scores: np.ndarray, labels: np.ndarray) -> float:
    """Return Spearman's rho for graded completeness, else the AUROC of label 1."""
    if relation is Relation.COVERED:
        return float(spearmanr(scores, labels)[0])
    good = labels >= 1 - 1e-9
    ranks = rankdata(scores)
    wins = ranks[good].sum() - good.sum() * (good.sum() + 1) / 2
    return float(wins / (good.sum() * (~good).sum()))


def fit(relation: Relation, sets: Sequence[LabelledSet]) -> np.ndarray:
    """Fit intercept and weights by cross-entropy, every set counting the same; weights ≥ 0.

    Each set has an intercept of its own, so that a difference in how strict its people were does
    not pass for evidence; the mean is kept. Checks take no part: they are not fitted.
    """

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights = parameters[len(sets) :]
        total = RIDGE * float((weights**2).sum())
        slope = np.concatenate([np.zeros(len(sets)), 2 * RIDGE * weights])
        for place, one in enumerate(sets):
            support = 1 / (1 + np.exp(-(parameters[place] + one.features @ weights)))
            counts = np.diff(one.starts, append=len(support))
            value = np.clip(np.add.reduceat(support, one.starts) / counts, 1e-4, 1 - 1e-4)
            size = len(value)
            total -= float(
                (one.labels * np.log(value) + (1 - one.labels) * np.log(1 - value)).sum() / size
            )
            outer = ((1 - one.labels) / (1 - value) - one.labels / value) / size / counts
            inner = np.repeat(outer, counts) * support * (1 - support)
            slope[place] += inner.sum()
            slope[len(sets) :] += inner @ one.features
        return total, slope

    width = len(NAMES[relation])
    start = np.concatenate([np.full(len(sets), -3.0), np.ones(width)])
    bounds = [(-20.0, 5.0)] * len(sets) + [(0.0, 20.0)] * width
    found = minimize(loss, start, method="L-BFGS-B", jac=True, bounds=bounds).x
    return np.concatenate([[found[: len(sets)].mean()], found[len(sets) :]])


def cross_validate(relation: Relation, sets: Sequence[LabelledSet]) -> dict[str, float]:
    """Return each set's agreement, averaged over repeated grouped folds."""
    figures: dict[str, list[float]] = {one.name: [] for one in sets}
    for repeat in range(REPEATS):
        generator = np.random.default_rng(repeat)
        folds = []
        for one in sets:
            distinct, places = np.unique(one.clusters, return_inverse=True)
            folds.append(generator.permutation(np.arange(len(distinct)) % FOLDS)[places])
        scores = [np.zeros(len(one.labels)) for one in sets]
        for fold in range(FOLDS):
            parameters = fit(
                relation,
                [one.subset(own != fold) for one, own in zip(sets, folds, strict=True)],
            )
            for one, own, mine in zip(sets, folds, scores, strict=True):
                mine[own == fold] = one.subset(own == fold).predict(relation, parameters)
        for one, mine in zip(sets, scores, strict=True):
            figures[one.name].append(agreement(relation, mine, one.labels))
    return {name: float(np.mean(values)) for name, values in figures.items()}


def main() -> None:
    """Fit, report, and write the coefficients if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    parser.add_argument("--model", type=Path, help="sentence encoder (the packaged one if left out)")
    parser.add_argument("--write", action="store_true", help="write the package's coefficients")
    arguments = parser.parse_args()
    unfitted = {relation: Weights(0.0, (0.0,) * len(NAMES[relation])) for relation in Relation}
    backend = EmbeddedBackend(MiniLM(arguments.model), weights=unfitted)
    relations = {}
    for relation, names in SETS.items():
        sets = [gather(relation, name, arguments.data, backend) for name in names]
        validated = cross_validate(relation, sets)
        parameters = fit(relation, sets)
        for one in sets:
            inside = agreement(relation, one.predict(relation, parameters), one.labels)
            print(f"  {one.name}: cross-validated {validated[one.name]:.4f}, in-sample {inside:.4f}")
        weights = {
            name: round(float(value), 4)
            for name, value in zip(NAMES[relation], parameters[1:], strict=True)
        }
        relations[str(relation)] = {"intercept": round(float(parameters[0]), 4), "weights": weights}
        print(f"  {relations[str(relation)]}")
    if arguments.write:
        write_json(WEIGHTS_FILE, {"schema_version": 1, "relations": relations})


if __name__ == "__main__":
    main()
