"""Calibrate the embedded backend on human-labelled sets.

    python scripts/fit_scorers.py --data DIR [--write]

For each relation, feature weights are fitted and measured with each set held out, then by
cross-validation over documents within sets, then fitted on all rows; `--write` puts the last into
the package. Each figure is printed beside two baselines: token overlap, and the encoder's plain
cosine.
"""

import argparse
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from ftreg.files.store import write_json
from ftreg.gate.agreement import auroc, spearman
from ftreg.records.samples import Sample, Score
from ftreg.scoring.backends.embedded import FEATURES, PENALTIES, EmbeddedBackend, Weights, shared
from ftreg.scoring.backends.minilm import MiniLM
from ftreg.scoring.claims import sentences
from ftreg.scoring.factory import get_scorer
from ftreg.scoring.protocol import BackendError, Inquiry, Relation
from ftreg.scoring.token_overlap import token_overlap

WEIGHTS_FILE = Path(__file__).parents[1] / "ftreg/scoring/backends/embedded_weights.json"
FOLDS, REPEATS = 5, 1
RIDGE = 0.002
GOOD_FROM = 1 - 1e-9
Metric = Callable[[np.ndarray, np.ndarray], float]
Rows = Sequence[dict[str, Any]]


def auroc_of_good(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the AUROC of label 1 against the rest."""
    return auroc(scores, labels >= GOOD_FROM)


SETS: dict[str, tuple[str, Metric]] = {
    "qags_cnndm": ("faithfulness", auroc_of_good),
    "q2_wow": ("faithfulness", auroc_of_good),
    "cliff_cnndm": ("faithfulness", auroc_of_good),
    "begin_tc": ("faithfulness", auroc_of_good),
    "wikiqa": ("answer_relevancy", auroc_of_good),
    "grade": ("answer_relevancy", spearman),
    "realsumm": ("completeness", spearman),
    "sfres": ("completeness", spearman),
    "beetle_c": ("completeness", auroc_of_good),
    "webnlg_coverage": ("completeness", spearman),
}
RELATIONS = {
    "faithfulness": Relation.SUPPORTED,
    "answer_relevancy": Relation.RELEVANT,
    "completeness": Relation.COVERED,
}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file of labelled rows."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


def cluster(name: str, row: dict[str, Any]) -> str:
    """Return the key that dependent rows share: the document, dialogue or question."""
    match name:
        case "wikiqa" | "grade" | "beetle_c":
            return str(row["input"])
        case "sfres" | "q2_wow" | "begin_tc" | "webnlg_coverage":
            return str(row["context"] or row["reference"])
        case "realsumm":
            return re.sub(r"^.*-", "", row["id"])
        case "cliff_cnndm" | "qags_cnndm":
            return str(row["context"])
        case _:
            return str(row["id"])


def sample(row: dict[str, Any]) -> Sample:
    """Return the scorer's input for a row."""
    return Sample(
        id=row["id"],
        input=row["input"],
        output=row["output"],
        reference=tuple(row["reference"].split(" | ")) if row["reference"] else None,
        context=row["context"] or None,
    )


def pair(task: str, row: dict[str, Any]) -> tuple[str, str]:
    """Return the baselines' input: (text whose words are sought, text to find them in)."""
    match task:
        case "faithfulness":
            return row["output"], row["context"]
        case "answer_relevancy":
            return row["input"], row["output"]
        case _:
            return row["reference"], row["output"]


def overlaps(task: str, rows: Rows) -> np.ndarray:
    """Return the share of the sought words that are found, shape (rows,)."""
    return np.array([token_overlap(*pair(task, row)) for row in rows])


def cosines(task: str, rows: Rows, model: MiniLM) -> np.ndarray:
    """Return the plain cosine, shape (rows,).

    For faithfulness, it is the mean over output sentences of the best cosine with the context's.
    """
    if task != "faithfulness":
        left = model.encode([pair(task, row)[0] for row in rows])
        right = model.encode([pair(task, row)[1] for row in rows])
        return np.asarray((left * right).sum(1))
    values = []
    for row in rows:
        points = model.encode(sentences(row["output"]) or [row["output"]])
        values.append(float((points @ model.encode(sentences(row["context"])).T).max(1).mean()))
    return np.array(values)


@dataclass(frozen=True)
class LabelledSet:
    """The evidence of a set, one row per point.

    An example has an alternative per reference; a point belongs to an alternative.
    """

    name: str
    features: np.ndarray  # (points, features)
    penalty: np.ndarray  # (points,)
    verbatim: np.ndarray  # (points,)
    owner: np.ndarray  # (points,): index of its alternative
    given: np.ndarray  # (alternatives,): the score if the backend is not needed, else nan
    first: np.ndarray  # (examples,): index of its first alternative
    labels: np.ndarray  # (examples,)
    clusters: np.ndarray  # (examples,)

    def mean(self, points: np.ndarray) -> np.ndarray:
        """Return the mean over the points of each example's best alternative, shape (examples,)."""
        size = len(self.given)
        counts = np.maximum(np.bincount(self.owner, minlength=size), 1)
        made = np.bincount(self.owner, weights=points, minlength=size) / counts
        made = np.where(np.isnan(self.given), made, self.given)
        return np.asarray(np.maximum.reduceat(made, self.first))

    def support(self, weights: Weights) -> np.ndarray:
        """Return the support of each point in [0, 1], without checks, shape (points,)."""
        odds = weights.intercept + self.features @ np.array(weights.weights)
        return np.where(self.verbatim, 1.0, 1 / (1 + np.exp(-odds)))

    def predict(self, weights: Weights) -> np.ndarray:
        """Return the score that the scorer would give each example, shape (examples,)."""
        return self.mean(self.support(weights) * self.penalty)


def gather(name: str, data: Path, backend: EmbeddedBackend) -> LabelledSet:
    """Compute the evidence for every row of a set; a row without a score counts as 0."""
    rows = read_rows(data / f"{name}.jsonl")
    task = SETS[name][0]
    relation = RELATIONS[task]
    scorer: Any = get_scorer(task, backend=backend)
    samples = [sample(row) for row in rows]
    spread = [
        replace(each, reference=text) for each in samples for text in each.references or (None,)
    ]
    first = np.cumsum([0, *(max(len(each.references), 1) for each in samples)])[:-1]
    plans = [scorer._inquiry(each) for each in spread]
    asked = [plan for plan in plans if isinstance(plan, Inquiry)]
    found = iter(backend.evidence(relation, asked))
    evidence = [next(found) if isinstance(plan, Inquiry) else plan for plan in plans]
    given = np.full(len(spread), np.nan)
    points, owner = [], []
    for place, each in enumerate(evidence):
        if isinstance(each, Score | BackendError):
            given[place] = (each.value if isinstance(each, Score) else None) or 0.0
        else:
            points += each
            owner += [place] * len(each)
    factors = PENALTIES.get(relation, {})
    return LabelledSet(
        name,
        np.array([point.features for point in points]),
        np.array([np.prod([factors.get(check, 1.0) for check in p.checks]) for p in points]),
        np.array([point.verbatim for point in points]),
        np.array(owner),
        given,
        first,
        np.array([float(row["label"]) for row in rows]),
        np.array([cluster(name, row) for row in rows]),
    )


def fit(sets: Sequence[LabelledSet], kept: Sequence[np.ndarray] | None = None) -> Weights:
    """Fit by cross-entropy of the mean support; good and bad examples have equal total weight.

    Each set has its own intercept, so that differences in annotator strictness do not affect the
    weights; the mean intercept is returned. Weights are at least 0. Checks are not used.

    Args:
        sets: sets to fit on, equally weighted.
        kept: a mask over the examples of each set; None: all.
    """
    masks = kept or [np.full(len(one.labels), True) for one in sets]
    balances = []
    for one, mask in zip(sets, masks, strict=True):
        share = one.labels[mask].mean()
        balance = one.labels / share / 2 + (1 - one.labels) / (1 - share) / 2
        balances.append(np.where(mask, balance, 0.0) / mask.sum())

    def loss(parameters: np.ndarray) -> float:
        weights = parameters[len(sets) :]
        total = RIDGE * float((weights**2).sum())
        for place, (one, balance) in enumerate(zip(sets, balances, strict=True)):
            support = one.support(Weights(parameters[place], tuple(weights)))
            value = np.clip(one.mean(support), 1e-4, 1 - 1e-4)
            entropy = one.labels * np.log(value) + (1 - one.labels) * np.log(1 - value)
            total -= float((balance * entropy).sum()) / len(sets)
        return total

    width = sets[0].features.shape[1]
    start = np.concatenate([np.full(len(sets), -3.0), np.ones(width)])
    bounds = [(-20.0, 5.0)] * len(sets) + [(0.0, 20.0)] * width
    with threadpool_limits(1):  # for products this small, threads only add overhead
        found = minimize(loss, start, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-6}).x
    return Weights(float(found[: len(sets)].mean()), tuple(found[len(sets) :].tolist()))


def cross_validate(sets: Sequence[LabelledSet]) -> dict[str, float]:
    """Return each set's figure, cross-validated by document, averaged over `REPEATS` divisions."""
    figures: dict[str, list[float]] = {one.name: [] for one in sets}
    for repeat in range(REPEATS):
        generator = np.random.default_rng(repeat)
        folds = []
        for one in sets:
            distinct, places = np.unique(one.clusters, return_inverse=True)
            folds.append(generator.permutation(np.arange(len(distinct)) % FOLDS)[places])
        scores = [np.zeros(len(one.labels)) for one in sets]
        for fold in range(FOLDS):
            weights = fit(sets, [own != fold for own in folds])
            for one, own, mine in zip(sets, folds, scores, strict=True):
                mine[own == fold] = one.predict(weights)[own == fold]
        for one, mine in zip(sets, scores, strict=True):
            figures[one.name].append(SETS[one.name][1](mine, one.labels))
    return {name: float(np.mean(values)) for name, values in figures.items()}


def main() -> None:
    """Fit, report, and write the coefficients if requested."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    parser.add_argument("--write", action="store_true", help="write the package's coefficients")
    arguments = parser.parse_args()
    backend, encoder = shared(), MiniLM()
    # Coefficients for claims about code were fitted on functions and docstrings; keep them.
    relations = json.loads(WEIGHTS_FILE.read_text("utf-8"))["relations"]
    for task, relation in RELATIONS.items():
        names = [name for name, (of, _) in SETS.items() if of == task]
        sets = [gather(name, arguments.data, backend) for name in names]
        validated = cross_validate(sets)
        fitted = fit(sets)
        gains = []
        for one in sets:
            rows = read_rows(arguments.data / f"{one.name}.jsonl")
            metric = SETS[one.name][1]
            others = [other for other in sets if other is not one]
            base = [overlaps(task, rows), cosines(task, rows, encoder)]
            figures = {
                "overlap": metric(base[0], one.labels),
                "cosine": metric(base[1], one.labels),
                "judge alone": metric(one.mean(one.features[:, 0]), one.labels),
                "weights of the other sets": metric(one.predict(fit(others)), one.labels),
                "cross-validated": validated[one.name],
                "in sample": metric(one.predict(fitted), one.labels),
            }
            gains.append(validated[one.name] - max(figures["overlap"], figures["cosine"]))
            print(f"{one.name}: " + ", ".join(f"{k} {v:.3f}" for k, v in figures.items()))
        print(f"{task}: over the better baseline {np.mean(gains):+.3f}, least {min(gains):+.3f}")
        named = dict(zip(FEATURES[relation], np.round(fitted.weights, 3).tolist(), strict=True))
        relations[str(relation)] = {"intercept": round(fitted.intercept, 3), "weights": named}
        print(f"  {relations[str(relation)]}", flush=True)
    if arguments.write:
        write_json(WEIGHTS_FILE, {"schema_version": 1, "relations": relations})


if __name__ == "__main__":
    main()
