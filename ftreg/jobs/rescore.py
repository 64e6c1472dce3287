"""Score the stored outputs of an evaluation, or of a baseline, with the current scorers."""

import dataclasses
import datetime
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ftreg
from ftreg.config import custom_code
from ftreg.config.sections import DatasetConfig, ScorerConfig, Thoughts
from ftreg.data import DatasetVersion, load_dataset
from ftreg.errors import UsageError
from ftreg.files.store import check_writable, damaged, digest, portable_path
from ftreg.jobs.generate import EvalEvents, Round, SilentEval
from ftreg.jobs.report import evaluated_checkpoint
from ftreg.jobs.score_rounds import Scoring, make_scorers
from ftreg.records.baseline import (
    Baseline,
    baseline_files,
    read_anchor,
    read_baseline,
    replace_entries,
)
from ftreg.records.evaluation.clock import next_moment
from ftreg.records.evaluation.comparable import same_configuration
from ftreg.records.evaluation.header import made_elsewhere
from ftreg.records.evaluation.rows import Run, each_output
from ftreg.records.evaluation.stored import (
    Evaluation,
    read_evaluation,
    read_probed,
    write_evaluation,
)
from ftreg.records.layout import HEADER, OUTPUTS
from ftreg.records.printed import Printed, printed
from ftreg.records.samples import Example, Output
from ftreg.records.workspace import Workspace, names_file

_STAMP = re.compile(r"-\d{8}T\d+\Z")
# Keys of a header that are written again with the folder.
_OF_THE_FOLDER = ("schema_version", "id", "summary", "probes", "files", "digest")


@printed
class RescoredMean:
    """One scorer, before and after."""

    scorer: str
    """Its name."""
    before: float | None
    """Stored mean score; null if no example has one."""
    after: float | None
    """Current mean score; null likewise."""
    missing: int
    """Examples without a current score."""


@printed
class RescoredEvaluation:
    """An evaluation of the same outputs, with the current scores."""

    evaluation: str
    """Id of the new evaluation."""
    rescored_from: str
    """Id of the original evaluation, which is unchanged."""
    scorers: tuple[RescoredMean, ...]
    """One per scorer."""


@printed
class Rescoring(Printed):
    """What `ftreg rescore --json` prints."""

    evaluations: tuple[RescoredEvaluation, ...]
    """The new evaluations: one, or those of a baseline and its anchor."""
    baseline: Path | None
    """Path of the baseline's file, if it was rescored; null for an evaluation."""


@dataclasses.dataclass(frozen=True, slots=True)
class _How:
    """What determines how outputs are scored, besides their evaluation."""

    workspace: Workspace
    root: Path | None
    thoughts: Thoughts | None
    events: EvalEvents


def rescore(
    ref: str,
    *,
    workspace: Workspace,
    root: Path | None = None,
    thoughts: Thoughts | None = None,
    events: EvalEvents | None = None,
) -> Rescoring:
    """Rescore stored outputs, with the same configuration and the current scorers.

    The scores go into a new evaluation; the old one stays. A baseline's file gets the new scores of
    its baseline and its anchor, and its history keeps the old ones.

    Args:
        ref: an evaluation (its folder, its id, or `latest`), a baseline's file, or `baseline` if
            the workspace has only one.
        workspace: has the evaluations.
        root: the folder of datasets; default: the one used for the evaluation.
        thoughts: `strip` or `keep`; default: as in the evaluation, and `strip` for an evaluation
            that predates the setting.
        events: receives progress.

    Raises:
        UsageError: outputs, dataset version or a scorer's configuration are not available, or the
            baseline changed in the meantime; stored records are unchanged.
    """
    how = _How(workspace, root, thoughts, events or SilentEval())
    path = _baseline_path(ref, workspace)
    if path is None:
        old = read_evaluation(workspace.evaluation(ref))
        return Rescoring(evaluations=(_summary(old, _rescored(old, how)),), baseline=None)
    sides = {"baseline": read_baseline(path), "anchor": read_anchor(path)}
    stored = {
        str(entry.header["id"]): _stored(entry, side, path=path, workspace=workspace)
        for side, entry in sides.items()
        if entry is not None
    }
    scored = {name: _rescored(old, how) for name, old in stored.items()}
    replace_entries(path, scored)
    found = tuple(_summary(stored[name], new) for name, new in scored.items())
    return Rescoring(evaluations=found, baseline=path)


def _baseline_path(ref: str, workspace: Workspace) -> Path | None:
    """Return the file of the baseline that `ref` names; None if it names an evaluation."""
    if names_file(ref):
        return Path(ref)
    if ref not in ("baseline", "anchor"):
        return None
    found = baseline_files(workspace.baselines)
    if not found:
        raise UsageError(f"{workspace.baselines}: there is no baseline, so nothing to rescore")
    if len(found) > 1:
        commands = "".join(f"\n  ftreg rescore {path}" for path in found)
        raise UsageError(
            f"{workspace.baselines} has several baselines; name the file of one:{commands}"
        )
    return found[0]


def _stored(entry: Baseline, side: str, *, path: Path, workspace: Workspace) -> Evaluation:
    """Return the promoted evaluation, with its outputs.

    Raises:
        UsageError: it is missing or has changed; the message says what to do.
    """
    header = entry.header
    folder = workspace.evaluations / str(header["id"])
    if (folder / HEADER).is_file():
        found = read_evaluation(folder)
        if digest(found.scores) == digest(entry.scores):
            return found
        lacks = f"{folder} has different scores from those promoted"
    else:
        lacks = f"{folder} is missing, and the file has scores without outputs"
    why = f'--force --why "scored by ftreg {ftreg.__version__}"'
    promote = f"ftreg promote latest {why}"
    if side == "anchor":  # the baseline itself is at hand, and goes back to its place
        baseline = read_baseline(path).header["id"]
        promote = f"ftreg promote latest --anchor {why}\n  ftreg promote {baseline} {why}"
    name = header["checkpoint"]["name"]
    what = f"--outputs FILE --name {name}" if made_elsewhere(header) else name
    raise UsageError(
        f"{path}: the {side} cannot be rescored: {lacks}. Restore that folder from the machine "
        "that evaluated it, or evaluate the promoted checkpoint again and promote that:\n"
        f"  ftreg eval {what} --dataset {header['dataset']['version']} --no-gate\n  {promote}"
    )


def _rescored(old: Evaluation, how: _How) -> Evaluation:
    """Write an evaluation of the same outputs with the current scores."""
    events, header = how.events, old.header
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S%f")
    folder = how.workspace.evaluations / f"{_STAMP.sub('', old.id)}-{now}"
    check_writable(folder)
    dataset, rows = _rows(old, how)
    root = dataset.folder.parent.parent
    thoughts = how.thoughts or header.get("thoughts", "strip")
    events.phase("loading the scorers")
    configs, scorers = _scorers(old, how.workspace, thoughts)
    scoring = Scoring(dataset, rows, scorers)
    runs: dict[int | None, Run] = {}
    for seed, outputs in _outputs(old, rows).items():
        runs[seed], _ = scoring.score([Round(outputs, {})], events)
    if header.get("noise"):
        events.notice(
            f"{old.id} was generated {header['noise']['repeats']} times but keeps the first "
            "outputs only, so the noise floor of these scores is unknown"
        )
    return write_evaluation(
        folder,
        header={
            **{key: value for key, value in header.items() if key not in _OF_THE_FOLDER},
            "created": next_moment(how.workspace.evaluations, notice=events.notice),
            "ftreg": ftreg.__version__,
            "rescored_from": old.id,
            "dataset": {**header["dataset"], "root": portable_path(str(root))},
            "noise": None,
            **scoring.record(runs.values(), configs=configs, thoughts=thoughts),
        },
        examples=rows,
        runs=runs,
        cohort_tags=old.cohorts,
        cluster=dataset.card.cluster,
        probed=read_probed(old),  # what was asked of the model cannot be asked again
    )


def _rows(old: Evaluation, how: _How) -> tuple[DatasetVersion, list[Example]]:
    """Return the evaluated rows, which scorers read besides the outputs."""
    wanted = old.header["dataset"]
    checkpoint = evaluated_checkpoint(old.header, how.workspace)
    trained = checkpoint.manifest.config.dataset.root if checkpoint else None
    default = trained or DatasetConfig.model_fields["root"].default
    root = how.root or Path(wanted.get("root", default))  # older evaluations do not say
    try:
        dataset = load_dataset(str(wanted["version"]), root=root)
    except UsageError as error:
        raise UsageError(
            f"{error}\nIts rows are needed to score {old.id}; if they have moved, name their "
            "folder with `--root FOLDER`."
        ) from error
    rows = list(dataset.split(wanted["split"])[: wanted["rows"]])
    same = digest([example.id for example in rows]) == wanted["rows_digest"]
    if dataset.card.digest != wanted["digest"] or not same:
        raise UsageError(
            f"{dataset.folder}: these are not the rows that {old.id} was evaluated on; restore "
            "them, or evaluate again"
        )
    return dataset, [row for row in rows if row.id in old.cohorts]


def _outputs(old: Evaluation, rows: Sequence[Example]) -> dict[int | None, list[Output]]:
    """Return the outputs by seed, in the order of the rows."""
    path = old.folder / OUTPUTS
    found: dict[int | None, dict[str, Output]] = {seed: {} for seed in old.seeds or (None,)}
    with damaged(path, kind="evaluation"):
        for row in each_output(path):
            output = Output(
                id=row["id"], text=row["output"], finish=row["finish"], tokens=row["tokens"]
            )
            found[row.get("seed")][row["id"]] = output
        return {seed: [outputs[row.id] for row in rows] for seed, outputs in found.items()}


def _scorers(
    old: Evaluation, workspace: Workspace, thoughts: Thoughts
) -> tuple[list[ScorerConfig], dict[str, Any]]:
    """Return the evaluation's scorers, configured as before, in their current versions.

    Older evaluations keep only a scorer's description of itself. The checkpoint's configuration
    has more, such as the variable of a key, but may have been overridden: the first configuration
    that gives the same description is used. A changed file that an option names also prevents a
    match.
    """
    place = old.folder / HEADER
    chosen, made = [], {}
    for name, identity in old.header["scorers"].items():
        refused: UsageError | None = None
        for config in _configs(name, old, workspace):
            for code in (config.name, config.backend):
                if code is not None and custom_code.names_code(code):
                    custom_code.refuse(code, place=f"{place}: scorers.{name}")
            try:
                scorer = make_scorers([config], thoughts=thoughts)[name]
            except UsageError as error:
                refused = refused or error
                continue
            if same_configuration(identity, scorer.describe()):
                chosen.append(config)
                made[name] = scorer
                break
        else:
            why = f": {refused}" if refused else ", and no available configuration gives the same"
            raise UsageError(
                f"{place}: the scorer {name} cannot be set up as before{why}. Evaluate the "
                "checkpoint again, with `ftreg eval`."
            ) from refused
    return chosen, made


def _configs(name: str, old: Evaluation, workspace: Workspace) -> list[ScorerConfig]:
    """Return possible configurations of a scorer, the likeliest first."""
    with damaged(old.folder / HEADER, kind="evaluation"):
        recorded = map(ScorerConfig.model_validate, old.header.get("scorer_configs", ()))
        known = [config for config in recorded if config.name == name]
    checkpoint = evaluated_checkpoint(old.header, workspace)
    trained = checkpoint.manifest.config.eval.scorers if checkpoint else []
    return [
        *known,
        *(config for config in trained if config.name == name),
        *_by_identity(old, name),
    ]


def _by_identity(old: Evaluation, name: str) -> list[ScorerConfig]:
    """Return the configuration in a scorer's description."""
    identity = old.header["scorers"][name]
    with damaged(old.folder / HEADER, kind="evaluation"):
        options = {
            key: item for key, item in identity.get("options", {}).items() if item is not None
        }
        backend: Mapping[str, Any] = identity.get("backend") or {}
        match backend.get("name"):
            case "judge":
                keys = ("base_url", "model", "max_tokens")
                options |= {key: backend[key] for key in keys if backend[key] is not None}
            case "nli":
                options |= {"model": backend["model"]["name"], "window": backend["window"]}
        return [ScorerConfig(name=name, backend=backend.get("name"), options=options)]


def _summary(old: Evaluation, new: Evaluation) -> RescoredEvaluation:
    before, after = old.header["summary"], new.header["summary"]
    return RescoredEvaluation(
        evaluation=new.id,
        rescored_from=old.id,
        scorers=tuple(
            RescoredMean(
                scorer=name,
                before=before[name]["mean"],
                after=summary["mean"],
                missing=summary["missing"],
            )
            for name, summary in after.items()
        ),
    )
