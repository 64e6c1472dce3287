"""Score a run's checkpoints for `train.keep_by`, as an evaluation would."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ftreg.config.sections import RunConfig
from ftreg.data import DatasetVersion, Split
from ftreg.errors import UsageError
from ftreg.jobs.generate import EvalEvents, generate_rounds
from ftreg.jobs.score_rounds import Scoring, make_scorers
from ftreg.records.checkpoint import Checkpoint
from ftreg.records.replicas import read_replicas
from ftreg.scoring.factory import PROBES

if TYPE_CHECKING:
    from ftreg.training.midway import Judge


def judge_by_scorer(config: RunConfig, events: EvalEvents) -> "Judge | None":
    """Create the scorer that chooses a run's checkpoint, before training starts.

    Outputs and scores are those of `ftreg eval` with the same `eval` section, generated once.

    Args:
        config: the run's.
        events: receives progress.

    Returns:
        The judge; None if no scorer chooses.

    Raises:
        UsageError: it is not in `eval.scorers`, an option is invalid, or a server generates.
    """
    name, asked = config.train.keep_by, config.eval.model_copy(update={"repeats": 1})
    if name is None:
        return None
    if asked.engine.name != "transformers":
        raise UsageError(
            "train.keep_by needs the outputs of each checkpoint, and eval.engine: "
            f"{asked.engine.name} is a server with its own weights; use transformers"
        )
    chosen = [scorer for scorer in asked.scorers if scorer.name == name]
    if not chosen:
        names = ", ".join(scorer.name for scorer in asked.scorers)
        raise UsageError(
            f"train.keep_by names the scorer {name}, which is not in eval.scorers ({names}); "
            "null keeps by the validation loss"
        )
    if name in PROBES:
        raise UsageError(
            f"train.keep_by: {name} measures what a model has retained, and the base model has "
            "retained everything; name a scorer of outputs"
        )
    events.phase("loading the scorer that chooses the checkpoint")
    scorers = make_scorers(chosen, thoughts=asked.thoughts)

    def judge(
        checkpoint: Checkpoint, dataset: DatasetVersion, rows: Split
    ) -> Sequence[float | None]:
        member = read_replicas(checkpoint.folder).with_base(config.base.model).first
        run, _ = Scoring(dataset, rows, scorers).score(
            generate_rounds(member, dataset, rows, asked, events), events
        )
        return [score.value for score in run.scores[name]]

    return judge
