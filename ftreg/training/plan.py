"""What a configuration would train with, without training."""

from typing import Any

from ftreg.config.sections import RunConfig
from ftreg.models.adapters import with_adapters
from ftreg.models.load import find_base, load_model
from ftreg.optim import build_optimizer, describe_optimizer, parameter_groups


def plan_optimizer(config: RunConfig) -> dict[str, Any]:
    """Build the model and its optimizer, and return what the manifest would record of it.

    Raises:
        UsageError: the base model is not here, or the optimizer refuses its settings.
    """
    base = find_base(config.base)
    model = load_model(base.folder, trust_remote_code=base.trust_remote_code)
    trained = model if config.lora is None else with_adapters(model, config.lora)
    groups = parameter_groups(trained, config.optimizer)
    return describe_optimizer(build_optimizer(trained, config.optimizer), config.optimizer, groups)
