"""What a configuration would train with, determined without training."""

from pathlib import Path

from ftreg.config.sections import RunConfig
from ftreg.data import load_dataset
from ftreg.errors import UsageError
from ftreg.models.adapters import with_adapters
from ftreg.models.pretrained import find_base, load_model
from ftreg.records.manifest import OptimizerRecord
from ftreg.training.batching.batches import steps_of_run
from ftreg.training.optim.advice import Advice, advise
from ftreg.training.optim.construct import build_optimizer, describe_optimizer
from ftreg.training.optim.groups import parameter_groups


def plan_optimizer(config: RunConfig) -> OptimizerRecord:
    """Build the model and its optimizer, and return the record for the manifest.

    Raises:
        UsageError: the base model is not available, or the optimizer rejects its settings.
    """
    base = find_base(config.base)
    model = load_model(base.folder, trust_remote_code=base.trust_remote_code)
    trained = model if config.lora is None else with_adapters(model, config.lora)
    groups = parameter_groups(trained, config.optimizer)
    return describe_optimizer(build_optimizer(trained, config.optimizer), config.optimizer, groups)


def plan_steps(config: RunConfig) -> int | None:
    """Return the optimizer steps that a run would take; None if its dataset is not available.

    The number of rows is that of the dataset's card.
    """
    settings = config.dataset
    try:
        card = load_dataset(settings.version, root=Path(settings.root)).card
        rows = card.splits[settings.train_split].rows
    except (UsageError, KeyError):
        return None
    return steps_of_run(
        min(rows, settings.max_train_examples or rows),
        batch_size=config.train.batch_size,
        epochs=config.train.epochs,
        max_steps=config.train.max_steps,
    )


def plan_advice(config: RunConfig, *, steps: int | None) -> list[Advice]:
    """Return the warnings of `ftreg train`; without steps, those that do not depend on them."""
    # After zero steps nothing has decayed, so there are no warnings about many steps.
    return advise(config, steps=0 if steps is None else steps)
