"""Find training rows that made examples worse: suspects by influence, proof by leaving them out.

A ranking by gradients is a guess. So the recipe is retrained with several seeds without the
suspects, and without as many random rows, and rows are named only if that confirms it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ftreg.config.code_named import refuse_code_named
from ftreg.config.policy import GatePolicy
from ftreg.errors import UndecidedError, UsageError, did_you_mean
from ftreg.files.store import digest, read_json, write_record
from ftreg.gate.verdict import largest_p_value
from ftreg.jobs.blame_runs import Rerun, Reruns, TrainedRows, eval_as, trained_rows
from ftreg.jobs.gate import find_baselines, judge, policy_of, refuse_unlike
from ftreg.jobs.report import evaluated_checkpoint
from ftreg.records.baseline import Baseline
from ftreg.records.checkpoint import Checkpoint, list_midway, read_checkpoint
from ftreg.records.evaluation.stored import Evaluation, read_outputs
from ftreg.records.kept_answers import BLAME, keep_answer
from ftreg.records.layout import MANIFEST
from ftreg.records.printed import Printed, json_object, printed
from ftreg.records.samples import Scores, over_seeds
from ftreg.records.workspace import Workspace
from ftreg.why.blame_proof import Effect, choose_suspects, gain_of_leaving_out, random_rows

if TYPE_CHECKING:
    from ftreg.models.assistant_turn import AssistantTurn
    from ftreg.training.events import TrainEvents

_RANKING_SCHEMA = 1
MOST_EXAMPLES = 32
"""The default number of explained examples: those with the largest drops."""
SEEDS = 3
"""The default number of runs per arm."""


@printed
class Suspect:
    """A training row that pulls towards the worse answers."""

    id: str
    harm: float
    """The cosine of its gradient and the worse answers' pull, in [-1, 1], mean over states."""
    input: str
    reference: str
    """The answer that was trained."""


@printed
class ArmScores:
    """What one arm of the proof scores on the examples."""

    delta: float | None
    """Mean over examples and seeds, minus the baseline's mean."""
    by_seed: tuple[float | None, ...]
    """The same for each seed."""


@printed
class Proof:
    """What training again without the suspects does."""

    seeds: tuple[int, ...]
    without_suspects: ArmScores
    without_random: ArmScores
    """Without as many other rows, drawn anew for each seed."""
    gain: float | None
    """`without_suspects` minus `without_random`, on the scale of the scores; null if nothing was
    scored."""
    interval: tuple[float, float] | None
    """Its confidence interval, with the noise of examples and of seeds."""
    p: float | None
    """Of a gain beyond the margin, one-sided."""
    margin: float


@printed
class Blame(Printed):
    """What `ftreg blame --json` prints."""

    evaluation: str
    """Its id."""
    against: str
    """Id of the evaluation that it is compared with."""
    scorer: str
    outcome: Literal["confirmed", "not confirmed", "not proven", "not worse"]
    """`not worse`: no drop was shown, so there is nothing to explain and nothing was trained; `not
    proven`: no proof was requested."""
    drop: float
    """Mean drop of the examples, on the scale of the scores."""
    examples: tuple[str, ...]
    """Ids of the examples that are explained."""
    states: int
    """States of the run that gradients were taken at."""
    rows: int
    """Training rows that were ranked."""
    suspects: tuple[Suspect, ...]
    """The most harmful first."""
    named: tuple[str, ...]
    """Ids of the suspects if the proof confirms them; else empty."""
    proof: Proof | None
    folder: Path | None
    """Where runs and estimates are kept; null if there are none."""


@dataclass(frozen=True, slots=True)
class BlameAsked:
    """The options of `blame`; None selects the default.

    `scorer` defaults to the one with the largest drop, `examples` (ids) to the largest drops,
    `suspects` (a number) to 5 % of all rows. `seeds` is the number of runs per arm; 0 means no
    proof. `anyway` continues even if nothing is certainly worse.
    """

    scorer: str | None = None
    examples: Sequence[str] = ()
    suspects: int | None = None
    seeds: int = SEEDS
    anyway: bool = False


def blame(
    evaluation: Evaluation,
    *,
    workspace: Workspace,
    against: str = "baseline",
    asked: BlameAsked | None = None,
    events: "TrainEvents | None" = None,
) -> Blame:
    """Rank the training rows behind a drop, and prove it by training without them.

    Runs are stored beside the checkpoint; after an interruption, the same call continues.

    Args:
        evaluation: the worse evaluation.
        workspace: has its checkpoint, and what it is compared with.
        against: `baseline`, `anchor`, or an evaluation.
        asked: the options.
        events: receives progress.

    Raises:
        UndecidedError: the two cannot be compared, or checkpoint or rows are no longer available.
        UsageError: a record is damaged, an argument is invalid, or something cannot be written.
        InterruptedRunError: a signal interrupted the training.
    """
    from ftreg.training.events import Silent

    asked, events = asked or BlameAsked(), events or Silent()
    baseline, _ = find_baselines(against, evaluation.header["dataset"]["name"], workspace=workspace)
    refuse_unlike(evaluation, baseline, None)
    case = _case(evaluation, baseline, asked, workspace)
    if not case.examples or not (asked.anyway or asked.examples or _is_worse(case)):
        return _kept(case, _result(case, "not worse"))
    ranked = _ranked(case, events)
    suspects = choose_suspects(ranked.harms, count=asked.suspects)
    found = [case.trained.ids[at] for at in suspects]
    shown = _suspects(case.trained, ranked.harms, suspects)
    if not asked.seeds:
        return _kept(case, _result(case, "not proven", ranked=ranked, suspects=shown))
    proof, effect = _prove(case, suspects, asked.seeds, events)
    level = 1 - policy_of(evaluation).confidence
    confirmed = effect is not None and effect.p_value <= level
    outcome: Literal["confirmed", "not confirmed"] = "confirmed" if confirmed else "not confirmed"
    named = tuple(found) if confirmed else ()
    return _kept(
        case,
        _result(case, outcome, ranked=ranked, suspects=shown, named=named, proof=proof),
    )


@dataclass(frozen=True, slots=True)
class _Case:
    """The drop to explain."""

    evaluation: Evaluation
    baseline: Baseline
    scorer: str
    examples: tuple[str, ...]
    checkpoint: Checkpoint
    trained: TrainedRows
    policy: GatePolicy

    @property
    def folder(self) -> Path:
        """Return the folder of runs and estimates."""
        return self.checkpoint.folder.with_name(f"{self.checkpoint.folder.name}.blame")

    def drop(self) -> float:
        """Return the mean drop of the examples."""
        deltas = _deltas(self.baseline.scores, self.evaluation.scores, self.scorer)
        found = [-deltas[name] for name in self.examples]
        return sum(found) / len(found) if found else 0.0


@dataclass(frozen=True, slots=True)
class _Ranked:
    """How strongly each training row pulls towards the worse answers."""

    harms: Sequence[float]
    states: int


def _case(
    evaluation: Evaluation, baseline: Baseline, asked: BlameAsked, workspace: Workspace
) -> _Case:
    checkpoint = evaluated_checkpoint(evaluation.header, workspace)
    if checkpoint is None:
        raise UndecidedError(
            f"the checkpoint {evaluation.header['checkpoint']['name']} of {evaluation.id} is not "
            "in the workspace or has changed; its gradients are needed"
        )
    place = checkpoint.folder / MANIFEST
    sections = ("base", "optimizer", "eval")
    refuse_code_named(
        checkpoint.manifest.config, marks={}, where=place, recorded=True, sections=sections
    )
    scorer = _scorer(evaluation, baseline, asked.scorer)
    eval_as(evaluation.header, checkpoint.manifest.config.eval, scorer=scorer)
    deltas = _deltas(baseline.scores, evaluation.scores, scorer)
    for name in asked.examples:
        if name not in deltas:
            raise UsageError(
                f"--example {name}: it has no score on both sides{did_you_mean(name, deltas)}"
            )
    worst = sorted((name for name in deltas if deltas[name] < 0), key=lambda n: (deltas[n], n))
    return _Case(
        evaluation=evaluation,
        baseline=baseline,
        scorer=scorer,
        examples=tuple(asked.examples or worst[:MOST_EXAMPLES]),
        checkpoint=checkpoint,
        trained=trained_rows(checkpoint),
        policy=policy_of(evaluation),
    )


def _scorer(evaluation: Evaluation, baseline: Baseline, asked: str | None) -> str:
    shared = sorted(evaluation.scores.keys() & baseline.scores.keys())
    if asked is not None and asked not in shared:
        raise UsageError(
            f"--scorer {asked}: both sides have {', '.join(shared) or 'none'}"
            f"{did_you_mean(asked, shared)}"
        )
    if not shared:
        raise UndecidedError(
            f"{evaluation.id} and {baseline.header['id']} have no scorer in common"
        )

    def mean(name: str) -> float:
        found = list(_deltas(baseline.scores, evaluation.scores, name).values())
        return sum(found) / len(found) if found else 0.0

    return asked or min(shared, key=lambda name: (mean(name), name))


def _deltas(old: Scores, new: Scores, scorer: str) -> dict[str, float]:
    """Return example id to candidate minus baseline, if both have a score."""
    found = {}
    for name, cell in new[scorer].items():
        after, before = over_seeds(cell), over_seeds(old[scorer].get(name))
        if after is not None and before is not None:
            found[name] = after - before
    return found


def _is_worse(case: _Case) -> bool:
    """Whether the gate's tests, over all examples or in a cohort, find a certain drop."""
    verdict = judge(case.evaluation, case.baseline, policy=None, anchor=None, looks=None)
    tested = [row for row in verdict.rows if row.scorer == case.scorer and row.p_beyond is not None]
    level = 1 - case.policy.confidence
    return any(
        (largest_p_value(row) if row.p_adjusted is None else row.p_adjusted) <= level
        for row in tested
    )


def _ranked(case: _Case, events: "TrainEvents") -> _Ranked:
    """Rank the rows, or read an earlier ranking."""
    midway = map(read_checkpoint, list_midway(case.checkpoint.folder))
    states = {state.manifest.weights.digest: state for state in (*midway, case.checkpoint)}
    question = {
        "weights": list(states),
        "examples": list(case.examples),
        "outputs": digest(case.evaluation.scores),
        "against": case.baseline.header["id"],
        "rows": case.checkpoint.manifest.dataset.split_sha256,
    }
    path = case.folder / f"influence-{digest(question)[:12]}.json"
    if path.is_file():
        harms = read_json(path, kind="ranking of rows", schema=_RANKING_SCHEMA)["harms"]
        if len(harms) == len(case.trained.ids):
            return _Ranked(harms, len(states))
    found = [_harms(case, state, events) for state in states.values()]
    harms = [sum(column) / len(found) for column in zip(*found, strict=True)]
    write_record(path, {"schema_version": _RANKING_SCHEMA, **question, "harms": harms})
    return _Ranked(harms, len(found))


def _harms(case: _Case, state: Checkpoint, events: "TrainEvents") -> list[float]:
    """Return how strongly each row pulls at one state of the run."""
    from ftreg.models.assistant_turn import AssistantTurn
    from ftreg.models.chat_template import stop_tokens
    from ftreg.models.trained_chat import trained_chat
    from ftreg.training.batching.examples import keeps_thoughts, token_pairs
    from ftreg.why.influence import harm_of_rows, load_with_gradients

    card = case.trained.dataset.card
    events.phase("loading the checkpoint")
    model = load_with_gradients(state)
    chat, settings = trained_chat(state), state.manifest.config.train
    turn = AssistantTurn(
        chat,
        system=card.prompt.system,
        stops=stop_tokens(chat.tokenizer, model.generation_config),
        thoughts=lambda: keeps_thoughts(case.trained.rows, settings.thoughts),
    )
    rows = token_pairs(
        case.trained.rows,
        turn=turn,
        prompt=card.prompt,
        thoughts=settings.thoughts,
        loss_on=settings.loss_on,
    )
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        events.progress("gradients", done, len(case.trained.ids))

    return harm_of_rows(model, rows, _contrasts(case, turn), advance=advance)


def _contrasts(case: _Case, turn: "AssistantTurn") -> list[Any]:
    """Return the worse and the better answer to each example.

    The worse answer is the checkpoint's, the better one the baseline's, or else the reference.
    """
    from ftreg.data import load_dataset
    from ftreg.why.influence import Contrast

    data = case.evaluation.header["dataset"]
    root = Path(data.get("root", case.checkpoint.manifest.config.dataset.root))
    dataset = load_dataset(data["version"], root=root)
    if dataset.card.digest != data["digest"]:
        raise UndecidedError(f"{dataset.folder}: it has changed since {case.evaluation.id}")
    wanted = set(case.examples)
    written = read_outputs(case.evaluation.folder, wanted)
    before = read_outputs(case.baseline.folder, wanted) if case.baseline.folder else {}
    found = []
    for example in dataset.split(data["split"]):
        if example.id not in wanted:
            continue
        messages = dataset.card.prompt.messages(example)
        better = before.get(example.id, {}).get("output") or next(iter(example.references), "")
        answers = []
        for text in (written[example.id]["output"], better):
            try:
                answers.append(turn.example(messages, {"content": text}) if text.strip() else None)
            except UsageError:  # a template may not accept a model's output
                answers.append(None)
        found.append(Contrast(*answers))
    return found


def _suspects(
    trained: TrainedRows, harms: Sequence[float], chosen: Sequence[int]
) -> tuple[Suspect, ...]:
    rows = [trained.rows[at] for at in chosen]
    return tuple(
        Suspect(id=row.id, harm=harms[at], input=row.input, reference=row.references[0])
        for at, row in zip(chosen, rows, strict=True)
    )


def _prove(
    case: _Case, suspects: Sequence[int], count: int, events: "TrainEvents"
) -> tuple[Proof, Effect | None]:
    """Train and evaluate both arms with every seed, and compare them."""
    manifest, ids = case.checkpoint.manifest, case.trained.ids
    seeds = [manifest.training.seed + 1 + number for number in range(count)]
    minutes = 2 * count * manifest.training.seconds / 60
    events.notice(
        f"{2 * count} runs without {len(suspects)} of {len(ids)} rows: about {minutes:.0f} "
        f"minutes of training, and as many evaluations; stored in {case.folder}"
    )
    key = digest([ids[at] for at in sorted(suspects)])[:12]
    reruns = Reruns(
        checkpoint=case.checkpoint,
        trained=case.trained,
        header=case.evaluation.header,
        scorer=case.scorer,
        folder=case.folder / key,
        events=events,
    )
    arms: dict[str, list[Mapping[str, Any]]] = {"suspects": [], "random": []}
    for seed in seeds:
        others = random_rows(len(ids), without=suspects, count=len(suspects), seed=seed)
        for arm, left_out in (("suspects", suspects), ("random", others)):
            run = Rerun(f"without-{arm}", seed, frozenset(ids[at] for at in left_out))
            arms[arm].append(reruns.evaluated(run).scores[case.scorer])
    return _held(case, seeds, arms)


def _held(
    case: _Case, seeds: Sequence[int], arms: Mapping[str, Sequence[Mapping[str, Any]]]
) -> tuple[Proof, Effect | None]:
    columns = {
        arm: {name: [run.get(name) for run in runs] for name in case.examples}
        for arm, runs in arms.items()
    }
    margin = case.policy.margin_for(case.scorer)
    effect = gain_of_leaving_out(
        columns["random"],
        columns["suspects"],
        margin=margin,
        confidence=case.policy.confidence,
        clusters={name: case.evaluation.clusters[name] for name in case.examples}
        if case.evaluation.clusters
        else None,
    )
    proof = Proof(
        seeds=tuple(seeds),
        without_suspects=_arm(case, arms["suspects"]),
        without_random=_arm(case, arms["random"]),
        gain=None if effect is None else effect.gain,
        interval=None if effect is None else effect.interval,
        p=None if effect is None else effect.p_value,
        margin=margin,
    )
    return proof, effect


def _arm(case: _Case, runs: Sequence[Mapping[str, Any]]) -> ArmScores:
    by_seed = []
    for run in runs:
        deltas = _deltas(case.baseline.scores, {case.scorer: run}, case.scorer)
        found = [deltas[name] for name in case.examples if name in deltas]
        by_seed.append(sum(found) / len(found) if found else None)
    known = [delta for delta in by_seed if delta is not None]
    return ArmScores(
        delta=sum(known) / len(known) if known else None,
        by_seed=tuple(by_seed),
    )


def _result(
    case: _Case,
    outcome: Literal["confirmed", "not confirmed", "not proven", "not worse"],
    *,
    ranked: _Ranked | None = None,
    suspects: tuple[Suspect, ...] = (),
    named: tuple[str, ...] = (),
    proof: Proof | None = None,
) -> Blame:
    return Blame(
        evaluation=case.evaluation.id,
        against=str(case.baseline.header["id"]),
        scorer=case.scorer,
        outcome=outcome,
        drop=case.drop(),
        examples=case.examples,
        states=0 if ranked is None else ranked.states,
        rows=0 if ranked is None else len(ranked.harms),
        suspects=suspects,
        named=named,
        proof=proof,
        folder=None if ranked is None else case.folder,
    )


def _kept(case: _Case, result: Blame) -> Blame:
    """Write the result beside the evaluation."""
    answer = {
        "against": result.against,
        "scorer": result.scorer,
        "outcome": result.outcome,
        "named": list(result.named),
        "suspects": [json_object(item) for item in result.suspects],
        "gain": None if result.proof is None else result.proof.gain,
    }
    keep_answer(case.evaluation, BLAME, answer)
    return result
