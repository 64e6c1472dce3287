"""The sections of a configuration that an evaluation reads, with or without training by ftreg."""

from collections.abc import Collection

from pydantic import Field

from ftreg.config.base import Section
from ftreg.config.policy import GatePolicy
from ftreg.config.sections import BaseConfig, DatasetConfig, EvalConfig, RunConfig
from ftreg.errors import did_you_mean

EVALUATION_SECTIONS = ("dataset", "eval", "gate")
"""The sections that configure an evaluation and can be changed after training."""


class EvaluationConfig(Section):
    """How to evaluate. It lacks the sections that only training reads."""

    base: BaseConfig = Field(default_factory=BaseConfig)
    """The base model of adapters, or the model itself, and its chat template."""
    dataset: DatasetConfig
    """The dataset version, and which of its rows."""
    eval: EvalConfig = Field(default_factory=EvalConfig)
    """Generation and scoring."""
    gate: GatePolicy = Field(default_factory=GatePolicy)
    """When a candidate passes."""


AnyEvaluationConfig = EvaluationConfig | RunConfig


def for_scorers(policy: GatePolicy, names: Collection[str]) -> tuple[GatePolicy, list[str]]:
    """Return a policy without its settings for missing scorers, and messages about these.

    Args:
        policy: the policy.
        names: the available scorers.
    """
    changed, dropped = {}, []
    for key in ("margins", "floors"):
        said = getattr(policy, key)
        changed[key] = {name: value for name, value in said.items() if name in names}
        dropped += [
            f"gate.{key}.{name} is left out: no scorer of that name is evaluated"
            f"{did_you_mean(name, names)}"
            for name in said
            if name not in names
        ]
    return (policy.model_copy(update=changed) if dropped else policy), dropped
