"""Find which part of the recipe made a checkpoint worse, by training hybrids of two recipes."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import ValidationError

from ftreg.config.evaluating import EvaluationConfig
from ftreg.config.load import evaluation_config
from ftreg.config.sections import DatasetConfig, RunConfig
from ftreg.data import DatasetVersion, load_dataset
from ftreg.errors import DivergedError, ExitCode, InterruptedRunError, UsageError, did_you_mean
from ftreg.files.store import digest, read_json, write_bytes, write_json
from ftreg.jobs.evaluate import evaluate
from ftreg.jobs.keep_by import judge_by_scorer
from ftreg.jobs.reproduce import repeatable_config
from ftreg.records.bisect_record import BISECTION, Bisection, TriedFactor, TriedHybrid
from ftreg.records.evaluation.stored import Evaluation, read_evaluation, read_header
from ftreg.records.layout import HEADER, MANIFEST
from ftreg.records.recipe import recipe_differences, recipe_of
from ftreg.records.replicas import Replicas, read_replicas
from ftreg.records.workspace import Workspace
from ftreg.why.causes import BisectQuestion, probabilities_of_factors
from ftreg.why.effects import CONFIDENCE, HybridRun, MeasuredRuns
from ftreg.why.factors import Factor, factor_groups, hybrid_config, setting_factors
from ftreg.why.hybrid_plan import BisectFinding, next_step, undecided, usual_runs
from ftreg.why.hybrid_rows import (
    RowDifference,
    row_difference,
    row_factors,
    write_hybrid_rows,
)

if TYPE_CHECKING:
    from ftreg.training.events import TrainEvents

BLOCKS = 4
"""The default number of blocks that differing training rows are split into."""
_MOST_FACTORS = 40
MAX_RUNS = 40
"""The default number of runs after which a search ends undecided."""


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two checkpoints, and the configuration that reproduces it."""

    replicas: Replicas
    config: RunConfig
    dataset: DatasetVersion


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """The search, and where its hybrids are stored.

    `rows` is None if training rows are not factors.
    """

    good: _Side
    bad: _Side
    factors: Sequence[Factor]
    rows: RowDifference | None
    judging: EvaluationConfig
    folder: Path
    evaluations: Path
    notes: Sequence[str]
    seeds: Sequence[int]
    events: "TrainEvents"

    @property
    def quiet(self) -> "TrainEvents":
        """Return events for one of many runs: progress, but no notices."""
        from ftreg.training.events import WithoutNotices

        return cast("TrainEvents", WithoutNotices(self.events))


@dataclass(slots=True)
class _Budget:
    """The maximum number of runs, and of seconds from now."""

    runs: int
    seconds: float | None
    began: float = field(default_factory=time.monotonic)
    trained: int = 0

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def ended(self, done: int) -> str | None:
        """Return which budget has run out before one more run; None if none has."""
        if done >= self.runs:
            return f"--max-runs {self.runs} is reached"
        each = self.elapsed / self.trained if self.trained else 0.0
        if self.seconds is not None and self.elapsed + each > self.seconds:
            return f"--max-hours {self.seconds / 3600:g} is reached"
        return None


def bisect(
    good: Path,
    bad: Path,
    *,
    workspace: Workspace,
    scorer: str | None = None,
    dataset: str | None = None,
    overrides: Sequence[str] = (),
    blocks: int = BLOCKS,
    max_runs: int = MAX_RUNS,
    max_hours: float | None = None,
    plan_only: bool = False,
    events: "TrainEvents | None" = None,
) -> Bisection:
    """Find which difference of two recipes explains the delta of their checkpoints.

    Hybrids are trained and evaluated one after the other; existing ones are reused, so a killed
    search can be resumed.

    Args:
        good: a checkpoint, or replicas.
        bad: another one, whose score is to be explained.
        workspace: stores the hybrids, in `checkpoints/bisect-<digest>/`.
        scorer: the scorer whose mean is explained; None is the mean of all scorers, with missing
            scores as 0.
        dataset: `name@N` to evaluate on; None is what the good checkpoint was trained on.
        overrides: `"section.key=value"` texts for `dataset` and `eval`, used in evaluations.
        blocks: the maximum number of blocks of differing training rows.
        max_runs: of hybrids, including those of earlier calls.
        max_hours: of this call.
        plan_only: train nothing, and report what would be tried and how long it would take.
        events: receives progress.

    Raises:
        UsageError: a checkpoint cannot be reproduced here, an argument is invalid, or no hybrid can
            be trained.
        InterruptedRunError: it was interrupted by a signal; the same call continues.
    """
    from ftreg.training.events import Silent

    if blocks < 1 or max_runs < 1 or (max_hours is not None and max_hours <= 0):
        raise UsageError("--blocks and --max-runs must be 1 or more, --max-hours must be above 0")
    events = events or Silent()
    budget = _Budget(max_runs, None if max_hours is None else max_hours * 3600)
    search = prepare_search(
        good,
        bad,
        workspace=workspace,
        judging=(scorer, dataset, overrides),
        blocks=blocks,
        events=events,
    )
    if plan_only:
        return _planned(search)
    deltas = [checkpoint_mean(search, side) for side in ("good", "bad")]
    observed = deltas[1] - deltas[0]
    runs, finding = _carry_out(search, budget, observed=observed)
    found = _told(_printed(search, runs, finding, observed=observed, minutes=budget.elapsed / 60))
    write_json(search.folder / BISECTION, found.to_dict())
    return found


def prepare_search(
    good: Path,
    bad: Path,
    *,
    workspace: Workspace,
    judging: tuple[str | None, str | None, Sequence[str]],
    blocks: int,
    events: "TrainEvents",
) -> Search:
    """Read both sides, split their difference into factors, choose the folder; writes nothing."""
    from ftreg.training.environment import describe_environment

    sides = [_side(folder, events) for folder in (good, bad)]
    first, second = sides
    config = _judging(first, *judging)
    factors, rows = _factors(first, second, blocks=blocks)
    if len(factors) > _MOST_FACTORS:
        raise UsageError(
            f"the recipes differ in {len(factors)} settings and blocks of rows, but no more than "
            f"{_MOST_FACTORS} can be distinguished; use a checkpoint between the two, or fewer "
            "--blocks"
        )
    made_of = {
        "sides": [side.replicas.identity for side in sides],
        "factors": [[factor.key, list(factor.rows)] for factor in factors],
        "versions": describe_environment()["versions"],
    }
    folder = workspace.checkpoints / f"bisect-{digest(made_of)[:12]}"
    judged = config.model_dump(mode="json", include={"dataset", "eval"})
    judged["digest"] = load_dataset(
        config.dataset.version, root=Path(config.dataset.root)
    ).card.digest
    return Search(
        good=first,
        bad=second,
        factors=factors,
        rows=rows,
        judging=config,
        folder=folder,
        evaluations=folder / f"evaluations-{digest(judged)[:8]}",
        notes=_notes(first, second, config),
        seeds=[*first.replicas.seeds, *second.replicas.seeds],
        events=events,
    )


def _side(folder: Path, events: "TrainEvents") -> _Side:
    replicas = read_replicas(folder)
    events.phase(f"checking {folder}, its dataset and its base model")
    config = repeatable_config(replicas.first, events)
    dataset = load_dataset(config.dataset.version, root=Path(config.dataset.root))
    return _Side(replicas, config, dataset)


def _judging(
    good: _Side, scorer: str | None, dataset: str | None, overrides: Sequence[str]
) -> EvaluationConfig:
    """Return the configuration of all evaluations."""
    for change in overrides:
        if change.partition(".")[0] not in ("dataset", "eval"):
            raise UsageError(
                f"-s {change}: only the evaluation of hybrids can be set, dataset and eval; the "
                "two recipes determine their training"
            )
    version = [f"dataset.version={dataset}"] if dataset else []
    config = evaluation_config(
        good.config.model_dump(mode="json"),
        overrides=[*version, *overrides],
        manifest=good.replicas.first.folder / MANIFEST,
    )
    names = [item.name for item in config.eval.scorers]
    if scorer is not None and scorer not in names:
        raise UsageError(
            f"--scorer {scorer}: eval.scorers does not have it{did_you_mean(scorer, names)} "
            f"({', '.join(names)})"
        )
    if config.eval.engine.name != "transformers":
        raise UsageError(
            f"eval.engine: {config.eval.engine.name} is a server with fixed weights, and hybrids "
            "have new ones; add -s eval.engine=transformers"
        )
    asked = [item for item in config.eval.scorers if scorer in (None, item.name)]
    settings = config.eval.model_copy(update={"scorers": asked, "repeats": 1, "report_to": []})
    return config.model_copy(update={"eval": settings})


def _factors(good: _Side, bad: _Side, *, blocks: int) -> tuple[list[Factor], RowDifference | None]:
    """Return all factors, and the rows that differ between two dataset versions."""
    same = good.dataset.card.digest == bad.dataset.card.digest
    apart = not same and _rows_can_be_mixed(good, bad)
    factors = setting_factors(
        good.config,
        bad.config,
        same_base=_base(good) == _base(bad),
        same_dataset=same or apart,
    )
    if not apart:
        return factors, None
    rows = row_difference(good.dataset, bad.dataset, good.config.dataset.train_split)
    return factors + row_factors(good.dataset, bad.dataset, rows, blocks=blocks), rows


def _base(side: _Side) -> tuple[str | None, ...]:
    recorded = side.replicas.first.manifest.base
    return recorded.digest, recorded.configuration, recorded.tokenizer


def _rows_can_be_mixed(good: _Side, bad: _Side) -> bool:
    """Whether both train on all rows of the same split, and validate on the same rows or none.

    Otherwise the dataset version is one factor.
    """
    first, second = good.config.dataset, bad.config.dataset
    split = first.validation_split
    return (
        first.train_split == second.train_split
        and first.max_train_examples is second.max_train_examples is None
        and (
            split == second.validation_split
            and (split is None or good.dataset.card.splits[split] == bad.dataset.card.splits[split])
        )
    )


def _notes(good: _Side, bad: _Side, judging: EvaluationConfig) -> list[str]:
    """Return differences that cannot be tried, and the dataset of the evaluations."""
    recipes = [recipe_of(side.replicas.first.manifest) for side in (good, bad)]
    found = [
        f"{key} differs ({before} and {after}) and is not tried: everything is trained with the "
        "installed version"
        for key, before, after in recipe_differences(*recipes)
        if key.startswith("versions.")
    ]
    settings = judging.dataset
    if good.dataset.card.digest != bad.dataset.card.digest:
        found.append(f"everything is evaluated on {settings.version}, {settings.eval_split}")
    return found


def _name(search: Search, bad: int) -> str:
    every = (1 << len(search.factors)) - 1
    if bad in (0, every):
        return "bad" if bad else "good"
    return "hybrid-" + "".join(str(bad >> place & 1) for place in range(len(search.factors)))


def _chosen(search: Search, bad: int) -> list[Factor]:
    return [factor for place, factor in enumerate(search.factors) if bad >> place & 1]


def _carry_out(
    search: Search, budget: _Budget, *, observed: float
) -> tuple[list[HybridRun], BisectFinding | None]:
    """Train and evaluate what the plan requests, until it has an answer or the budget runs out."""
    runs: list[HybridRun] = []
    if not search.factors:
        return runs, None
    question = question_asked(search)
    while True:
        step = next_step(question, runs, observed=observed)
        if isinstance(step, BisectFinding):
            return runs, step
        seed = _free_seed(search.seeds, [run.seed for run in runs if run.bad == step])
        known, ended = _is_there(search, step, seed), budget.ended(len(runs))
        if ended is not None and not known:
            return runs, undecided(question, runs, budget=ended)
        try:
            mean = run_hybrid(search, step, seed, number=len(runs) + 1)
        except InterruptedRunError as error:
            raise InterruptedRunError(
                f"interrupted after {len(runs)} complete runs; they and the state of the current "
                f"one are in {search.folder}, and the same command continues"
            ) from error
        runs.append(HybridRun(step, seed, mean))
        budget.trained += not known


def _free_seed(taken: Sequence[int], used: Sequence[int]) -> int:
    """Return the smallest seed that neither the two checkpoints nor this hybrid had.

    Hybrids share their seeds, so the common effect of a seed cancels in differences.
    """
    return next(seed for seed in range(1, 2**32) if seed not in taken and seed not in used)


def question_asked(search: Search) -> BisectQuestion:
    """Seeds that agree are still assumed to vary by half an example's score."""
    header = read_header(search.evaluations / "checkpoint-good")
    return BisectQuestion(
        len(search.factors),
        tuple(factor_groups(search.factors).values()),
        resolution=0.5 / int(header["dataset"]["rows"]),
    )


def _place(search: Search, bad: int, seed: int) -> Path:
    return search.evaluations / f"{_name(search, bad)}-seed-{seed}"


def _diverged(place: Path) -> Path:
    """Return the path of the record that replaces the evaluation of a diverged hybrid."""
    return place.with_name(f"{place.name}.diverged.json")


def _is_there(search: Search, bad: int, seed: int) -> bool:
    place = _place(search, bad, seed)
    return (place / HEADER).is_file() or _diverged(place).is_file()


def checkpoint_mean(search: Search, side: Literal["good", "bad"]) -> float:
    """Evaluate one of the two checkpoints, unless it is evaluated already."""
    replicas = search.good.replicas if side == "good" else search.bad.replicas
    place = search.evaluations / f"checkpoint-{side}"
    if not (place / HEADER).is_file():
        search.events.notice(f"evaluating {replicas.folder}")
        config = search.judging
        if side == "bad":  # adapters have their own base
            config = config.model_copy(update={"base": search.bad.config.base})
        evaluate(replicas.folder, config=config, folder=place, events=search.quiet)
    return _mean(read_evaluation(place))


def run_hybrid(search: Search, bad: int, seed: int, *, number: int) -> float:
    """Train and evaluate a hybrid with a seed, unless that is done; a diverged run scores 0."""
    place = _place(search, bad, seed)
    if _diverged(place).is_file():
        read_json(_diverged(place), kind="record of a diverged run", schema=1)
        return 0.0
    if not (place / HEADER).is_file():
        keys = ", ".join(factor.key for factor in _chosen(search, bad)) or "nothing"
        search.events.notice(f"run {number}: {keys} of the bad recipe, seed {seed}")
        try:
            _train_and_evaluate(search, bad, seed, place=place)
        except DivergedError as error:
            search.events.notice(f"it diverged and scores 0: {error}")
            write_json(_diverged(place), {"schema_version": 1, "error": str(error)})
            return 0.0
    return _mean(read_evaluation(place))


def _train_and_evaluate(search: Search, bad: int, seed: int, *, place: Path) -> None:
    import gc

    from ftreg.training.run import train

    config = _config(search, bad, seed)
    output = search.folder / _name(search, bad) / f"seed-{seed}"
    judge = judge_by_scorer(config, search.quiet)
    train(config, output=output, resume=True, judge=judge, events=search.quiet)
    gc.collect()
    judging = search.judging.model_copy(update={"base": config.base})
    evaluate(output, config=judging, folder=place, events=search.quiet)
    gc.collect()  # free the last model before the next one is loaded


def _config(search: Search, bad: int, seed: int) -> RunConfig:
    """Return the configuration of a hybrid.

    Raises:
        UsageError: the combination is invalid.
    """
    try:
        config = hybrid_config(search.good.config, search.bad.config, search.factors, chosen=bad)
    except ValidationError as error:
        keys = ", ".join(factor.key for factor in _chosen(search, bad))
        raise UsageError(
            f"no configuration can combine {keys} of the bad recipe with the rest of the good one "
            f"({error.errors()[0]['msg']}); bisect towards a checkpoint between the two"
        ) from error
    train = config.train.model_copy(update={"seed": seed, "seeds": None, "output": None})
    return config.model_copy(update={"train": train, "dataset": _dataset(search, bad, config)})


def _dataset(search: Search, bad: int, config: RunConfig) -> DatasetConfig:
    """Return the dataset section of a hybrid; a version that mixes two is written."""
    if search.rows is None:
        return config.dataset
    movable = [f for f in search.factors if f.key.startswith(("dataset.rows", "dataset.prompt"))]
    chosen = [factor for factor in _chosen(search, bad) if factor in movable]
    if len(chosen) in (0, len(movable)):
        side = search.bad if chosen else search.good
        version, root = side.config.dataset.version, side.config.dataset.root
    else:
        bits = "".join(str(int(factor in chosen)) for factor in movable)
        root = str(search.folder / "datasets")
        version = write_hybrid_rows(
            Path(root),
            search.good.dataset,
            search.bad.dataset,
            config.dataset.train_split,
            difference=search.rows,
            chosen=chosen,
            name=f"{search.good.dataset.ref.name}-{bits}",
        )
    return config.dataset.model_copy(update={"version": version, "root": root})


def _mean(evaluation: Evaluation) -> float:
    """Return the mean over scorers, examples and seeds; a missing score counts as 0."""

    def value(cell: Any) -> float:
        values = cell if isinstance(cell, list | tuple) else [cell]
        return math.fsum(one or 0.0 for one in values) / len(values)

    means = [
        math.fsum(map(value, scores.values())) / len(scores)
        for scores in evaluation.scores.values()
    ]
    return math.fsum(means) / len(means)


def _planned(search: Search) -> Bisection:
    """Return what would be tried, and approximately how long the training takes."""
    seconds = max(
        side.replicas.first.manifest.training.seconds for side in (search.good, search.bad)
    )
    runs = usual_runs(len(search.factors))
    blank = BisectFinding(answer="undecided", why=f"about {runs} runs would decide", more_runs=runs)
    found = _printed(search, [], blank, observed=None, minutes=runs * seconds / 60)
    return _told(replace(found, answer=None, exit_code=int(ExitCode.OK)))


def _told(found: Bisection) -> Bisection:
    """Return the answer with a sentence."""
    from ftreg.report.bisection import bisection_headline

    return replace(found, headline=bisection_headline(found))


def _printed(
    search: Search,
    runs: Sequence[HybridRun],
    finding: BisectFinding | None,
    *,
    observed: float | None,
    minutes: float,
) -> Bisection:
    finding = finding or _without_factors(search)
    groups = factor_groups(search.factors)
    keys = tuple(key for key, members in groups.items() if members == finding.suspects) or tuple(
        search.factors[place].key for place in finding.suspects
    )
    certain = finding.answer in ("culprit", "pair")
    culprit = (keys[0] if len(keys) == 1 else keys) if certain else None
    share, delta = finding.share if certain else None, finding.delta
    scorers = tuple(item.name for item in search.judging.eval.scorers)
    several = len({run.bad for run in runs}) < len(runs)
    noise = MeasuredRuns(runs, resolution=0.0).noise.deviation if several else None
    return Bisection(
        good=search.good.replicas.folder,
        bad=search.bad.replicas.folder,
        identities=(search.good.replicas.identity, search.bad.replicas.identity),
        headline="",
        scorers=scorers,
        dataset=search.judging.dataset.version,
        answer=finding.answer,
        culprit=culprit,
        share=share.value if share else None,
        interval=share.interval if share else None,
        confidence=CONFIDENCE,
        runs=len(runs),
        more_runs=finding.more_runs,
        why=finding.why,
        observed=observed,
        delta=delta.value if delta else None,
        delta_interval=delta.interval if delta else None,
        seed_deviation=noise,
        factors=_tried_factors(search, runs),
        hybrids=_tried_hybrids(search, runs),
        notes=tuple(search.notes),
        minutes=minutes,
        folder=search.folder,
        exit_code=int(ExitCode.UNDECIDED if finding.answer == "undecided" else ExitCode.OK),
    )


def _without_factors(search: Search) -> BisectFinding:
    """Return why there is nothing to search."""
    if any(note.startswith("versions.") for note in search.notes):
        why = "the recipes differ only in library versions, which are not tried"
        return BisectFinding(answer="undecided", why=why)
    return BisectFinding(answer="noise", why="the recipes differ only in the seed")


def _tried_factors(search: Search, runs: Sequence[HybridRun]) -> tuple[TriedFactor, ...]:
    count = len(search.factors)
    searched = len({run.bad for run in runs}) > 2 or (count == 1 and runs)
    chances: Sequence[float | None] = (
        probabilities_of_factors(question_asked(search), runs) if searched else [None] * count
    )
    return tuple(
        TriedFactor(
            key=factor.key, good=factor.good, bad=factor.bad, rows=factor.rows, probability=chance
        )
        for factor, chance in zip(search.factors, chances, strict=True)
    )


def _tried_hybrids(search: Search, runs: Sequence[HybridRun]) -> tuple[TriedHybrid, ...]:
    groups: dict[int, list[HybridRun]] = {}
    for run in runs:
        groups.setdefault(run.bad, []).append(run)

    def mean(bad: int) -> float:
        return math.fsum(run.mean for run in groups[bad]) / len(groups[bad])

    return tuple(
        TriedHybrid(
            bad=tuple(factor.key for factor in _chosen(search, bad)),
            seeds=tuple(run.seed for run in groups[bad]),
            means=tuple(run.mean for run in groups[bad]),
            folder=search.folder / _name(search, bad),
        )
        for bad in sorted(groups, key=mean, reverse=True)
    )


def write_bisection(found: Bisection, path: Path) -> None:
    """Write the page with the result of a search.

    Raises:
        UsageError: it cannot be written.
    """
    from ftreg.report.bisection import bisection_page

    write_bytes(path, [bisection_page(found).encode()])
