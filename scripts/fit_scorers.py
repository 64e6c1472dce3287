"""Fit the few coefficients of the embedded backend on sets labelled by people.

    python scripts/fit_scorers.py --data DIR [--model FOLDER] [--write]

Prints cross-validated figures (groups are documents or questions, so that no text is on both
sides), then fits on all rows; `--write` puts the coefficients into the package. Completeness has
none: `bench_scorers.py` measures it.
"""

import argparse
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.stats import rankdata, spearmanr

from ftreg.files.store import write_json
from ftreg.scoring import faithfulness
from ftreg.scoring.backends.embedded import PENALTIES, EmbeddedBackend, Weights
from ftreg.scoring.backends.minilm import MiniLM
from ftreg.scoring.backends.relevance import RELEVANCE_FEATURES
from ftreg.scoring.backends.support import SUPPORT_FEATURES
from ftreg.scoring.claims import claims
from ftreg.scoring.protocol import BackendError, Inquiry, Relation

WEIGHTS_FILE = Path(__file__).parents[1] / "ftreg/scoring/backends/embedded_weights.json"
FOLDS, REPEATS = 5, 3
RIDGE = 0.0005
SETS = {
    Relation.SUPPORTED: ("qags_cnndm", "q2_wow"),
    Relation.RELEVANT: ("wikiqa",),
}
NAMES = {
    Relation.SUPPORTED: SUPPORT_FEATURES,
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
    text = row["context"] if relation is Relation.SUPPORTED else row["input"]
    return Inquiry(claims(row["output"]), text)


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
        counts = self.counts
        points = np.repeat(kept, counts)
        starts = np.concatenate([[0], np.cumsum(counts[kept])[:-1]])
        return LabelledSet(
            self.name, self.features[points], self.penalty[points], starts,
            self.labels[kept], self.clusters[kept],
        )  # fmt: skip

    @property
    def counts(self) -> np.ndarray:
        """How many points each example has."""
        return np.diff(self.starts, append=len(self.penalty))

    def predict(self, relation: Relation, weights: Weights) -> np.ndarray:
        """Return the score of each example, as the scorer would give it."""
        support = self.penalty * np.array([weights.support(row) for row in self.features])
        if relation is not Relation.SUPPORTED:
            return np.add.reduceat(support, self.starts) / self.counts
        ends = np.append(self.starts, len(support))
        return np.array(
            [faithfulness.combine(support[a:b].tolist()) for a, b in itertools.pairwise(ends)]
        )


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
    penalties = PENALTIES.get(relation, {})
    points = [piece for _, evidence in kept for piece in evidence]
    counts = [len(evidence) for _, evidence in kept]
    return LabelledSet(
        name,
        np.array([piece.features for piece in points]),
        np.array(
            [np.prod([penalties.get(check, 1.0) for check in piece.checks]) for piece in points]
        ),
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


def fit(sets: Sequence[LabelledSet]) -> Weights:
    """Fit by cross-entropy of the mean support, good and bad examples counting the same.

    Each set has an intercept of its own, so that a difference in how strict its people were does
    not pass for evidence; their mean is kept. Weights are bounded by 0. Checks take no part: they
    are set by hand.
    """
    balances = []
    for one in sets:
        share = one.labels.mean()
        balances.append(one.labels / share / 2 + (1 - one.labels) / (1 - share) / 2)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights = parameters[len(sets) :]
        total = RIDGE * float((weights**2).sum())
        slope = np.concatenate([np.zeros(len(sets)), 2 * RIDGE * weights])
        for place, (one, balance) in enumerate(zip(sets, balances, strict=True)):
            support = 1 / (1 + np.exp(-(parameters[place] + one.features @ weights)))
            value = np.clip(np.add.reduceat(support, one.starts) / one.counts, 1e-4, 1 - 1e-4)
            scale = balance / len(value)
            entropy = one.labels * np.log(value) + (1 - one.labels) * np.log(1 - value)
            total -= float((scale * entropy).sum())
            outer = scale * ((1 - one.labels) / (1 - value) - one.labels / value) / one.counts
            inner = np.repeat(outer, one.counts) * support * (1 - support)
            slope[place] += inner.sum()
            slope[len(sets) :] += inner @ one.features
        return total, slope

    width = sets[0].features.shape[1]
    start = np.concatenate([np.full(len(sets), -3.0), np.ones(width)])
    bounds = [(-20.0, 5.0)] * len(sets) + [(0.0, 20.0)] * width
    found = minimize(loss, start, method="L-BFGS-B", jac=True, bounds=bounds).x
    return Weights(float(found[: len(sets)].mean()), tuple(found[len(sets) :].tolist()))


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
            weights = fit([one.subset(own != fold) for one, own in zip(sets, folds, strict=True)])
            for one, own, mine in zip(sets, folds, scores, strict=True):
                mine[own == fold] = one.subset(own == fold).predict(relation, weights)
        for one, mine in zip(sets, scores, strict=True):
            figures[one.name].append(agreement(relation, mine, one.labels))
    return {name: float(np.mean(values)) for name, values in figures.items()}


def main() -> None:
    """Fit, report, and write the coefficients if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    parser.add_argument(
        "--model", type=Path, help="sentence encoder (the packaged one if left out)"
    )
    parser.add_argument("--write", action="store_true", help="write the package's coefficients")
    arguments = parser.parse_args()
    backend = EmbeddedBackend(MiniLM(arguments.model), weights={})
    relations = {}
    for relation, names in SETS.items():
        sets = [gather(relation, name, arguments.data, backend) for name in names]
        validated = cross_validate(relation, sets)
        fitted = fit(sets)
        for one in sets:
            inside = agreement(relation, one.predict(relation, fitted), one.labels)
            print(
                f"  {one.name}: cross-validated {validated[one.name]:.3f}, in-sample {inside:.3f}"
            )
        relations[str(relation)] = {
            "intercept": round(fitted.intercept, 3),
            "weights": {
                name: round(weight, 3)
                for name, weight in zip(NAMES[relation], fitted.weights, strict=True)
            },
        }
        print(f"  {relations[str(relation)]}")
    if arguments.write:
        write_json(WEIGHTS_FILE, {"schema_version": 1, "relations": relations})


if __name__ == "__main__":
    main()
