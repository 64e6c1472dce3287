"""Retrain and evaluate a checkpoint's recipe without some of its rows.

Each run is an ordinary checkpoint trained on an ordinary dataset version, with an ordinary
evaluation, all in one folder beside the checkpoint. Existing runs are reused.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ftreg.config.sections import EvalConfig, RunConfig, ScorerConfig
from ftreg.data import DatasetVersion, Split
from ftreg.data.versions import write_card
from ftreg.errors import UndecidedError, UsageError
from ftreg.files.store import file_digest, read_jsonl, staged_folder, write_jsonl
from ftreg.jobs.evaluate import evaluate
from ftreg.jobs.keep_by import judge_by_scorer
from ftreg.jobs.reproduce import recorded_config
from ftreg.jobs.trained_on import trained_on
from ftreg.records.checkpoint import Checkpoint
from ftreg.records.evaluation.stored import Evaluation, read_evaluation
from ftreg.records.layout import HEADER

if TYPE_CHECKING:
    from ftreg.training.events import TrainEvents


@dataclass(frozen=True, slots=True)
class TrainedRows:
    """The rows that a checkpoint was trained on, in order, and their dataset version."""

    dataset: DatasetVersion
    rows: Split
    ids: tuple[str, ...]


def trained_rows(checkpoint: Checkpoint) -> TrainedRows:
    """Open the rows that a checkpoint was trained on.

    Raises:
        UndecidedError: they are no longer available, or have changed.
    """
    try:
        dataset, rows = trained_on(checkpoint.manifest)
    except UsageError as error:
        recorded = checkpoint.manifest.dataset
        raise UndecidedError(
            f"the rows that {checkpoint.folder} was trained on ({recorded.version}, "
            f"{recorded.split}) are not available: {error}"
        ) from error
    return TrainedRows(dataset, rows, tuple(row.id for row in rows))


@dataclass(frozen=True, slots=True)
class Rerun:
    """One run of the proof: its name, its seed, and the rows that it leaves out."""

    arm: str
    seed: int
    without: frozenset[str]


@dataclass(frozen=True, slots=True)
class Reruns:
    """Makes the runs of a proof, in a separate folder.

    `header` is the header of the explained evaluation: all runs are evaluated in the same way.
    """

    checkpoint: Checkpoint
    trained: TrainedRows
    header: Any
    scorer: str
    folder: Path
    events: "TrainEvents"

    def evaluated(self, run: Rerun) -> Evaluation:
        """Return the evaluation of a run; train and evaluate it first if necessary.

        Raises:
            UsageError: something cannot be written, or an existing file is damaged. DivergedError:
                training diverged. InterruptedRunError: it was interrupted by a signal; the same
                call continues.
        """
        from ftreg.training.events import WithoutNotices
        from ftreg.training.run import train

        name = f"{run.arm}-seed-{run.seed}"
        place = self.folder / "evaluations" / name
        if (place / HEADER).is_file():
            return read_evaluation(place)
        config = self._config(run, self._dataset(run, name))
        self.events.phase(f"training {name}")
        quiet = cast("TrainEvents", WithoutNotices(self.events))
        output = self.folder / "checkpoints" / name
        train(
            config, output=output, resume=True, judge=judge_by_scorer(config, quiet), events=quiet
        )
        return evaluate(output, config=self._as_evaluated(config), folder=place, events=quiet)

    def _config(self, run: Rerun, root: Path) -> RunConfig:
        config = recorded_config(self.checkpoint.manifest)
        ref = self.trained.dataset.ref
        dataset = {"root": str(root), "version": f"{ref.name}@1", "max_train_examples": None}
        train = {"seed": run.seed, "seeds": None, "output": None}
        return config.model_copy(
            update={
                "dataset": config.dataset.model_copy(update=dataset),
                "train": config.train.model_copy(update=train),
            }
        )

    def _dataset(self, run: Rerun, name: str) -> Path:
        """Write the dataset version without some rows, and return its folder of datasets."""
        dataset, recorded = self.trained.dataset, self.checkpoint.manifest.dataset
        root = self.folder / "datasets" / name
        folder = root / dataset.ref.name / "v1"
        if folder.is_dir():
            return root
        card, kept = dataset.card, set(self.trained.ids) - run.without
        with staged_folder(folder) as staging:
            splits = {}
            for split, entry in card.splits.items():
                lines = (row for _, row in read_jsonl(dataset.folder / entry.file))
                if split == recorded.split:
                    lines = (row for row in lines if row["id"] in kept)
                write_jsonl(staging / entry.file, lines)
                rows = len(kept) if split == recorded.split else entry.rows
                found = {"rows": rows, "sha256": file_digest(staging / entry.file)}
                splits[split] = entry.model_copy(update=found)
            changes = f"{dataset.ref} without {len(run.without)} of the rows of {recorded.split}."
            known = {"version": 1, "recipe": None, "splits": splits, "changes": changes}
            write_card(staging, card.model_copy(update=known))
        return root

    def _as_evaluated(self, config: RunConfig) -> RunConfig:
        data = self.header["dataset"]
        dataset = config.dataset.model_copy(
            update={
                "version": data["version"],
                "root": data.get("root", self.checkpoint.manifest.config.dataset.root),
                "eval_split": data["split"],
                "max_eval_examples": data["rows"],
            }
        )
        asked = eval_as(self.header, self.checkpoint.manifest.config.eval, scorer=self.scorer)
        return config.model_copy(update={"dataset": dataset, "eval": asked})


def eval_as(header: Any, trained: EvalConfig, *, scorer: str) -> EvalConfig:
    """Return the section `eval` of an evaluation, for one of its scorers.

    Args:
        header: the header of the evaluation.
        trained: the section in the checkpoint's configuration, for what the header lacks.
        scorer: the scorer's name.

    Raises:
        UndecidedError: a server generated the outputs, and it has the weights of one checkpoint; or
            the scorer's configuration is unknown.
    """
    generation = header["generation"]
    if generation["engine"] != "transformers":
        raise UndecidedError(
            f"{header['id']} was generated by {generation['engine']}, but retrained checkpoints "
            "generate in this process; evaluate with eval.engine: transformers first"
        )
    recorded = [ScorerConfig.model_validate(item) for item in header.get("scorer_configs", ())]
    chosen = [item for item in [*recorded, *trained.scorers] if item.name == scorer]
    if not chosen:
        raise UndecidedError(
            f"{header['id']} does not record the configuration of its scorer {scorer}"
        )
    return trained.model_copy(
        update={
            "scorers": chosen[:1],
            "max_new_tokens": generation["max_new_tokens"],
            "precision": generation["precision"],
            "batch_size": generation["batch_size"] or trained.batch_size,
            "thoughts": header.get("thoughts", "keep"),
            "engine": EvalConfig().engine,
            "report_to": [],
        }
    )
