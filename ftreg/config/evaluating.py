"""The sections of a configuration that an evaluation reads, whoever trained what is evaluated."""

from collections.abc import Collection

from pydantic import Field

from ftreg.config.base import Section
from ftreg.config.policy import GatePolicy
from ftreg.config.sections import BaseConfig, DatasetConfig, EvalConfig, RunConfig
from ftreg.errors import did_you_mean

EVALUATION_SECTIONS = ("dataset", "eval", "gate")
"""The sections that decide an evaluation, and that can be changed after training."""


class EvaluationConfig(Section):
    """How something is evaluated. It lacks what only training reads."""

    base: BaseConfig = Field(default_factory=BaseConfig)
    """The base model of adapters, or the model itself, and its chat template."""
    dataset: DatasetConfig
    """The dataset version, and which rows of it."""
    eval: EvalConfig = Field(default_factory=EvalConfig)
    """Generation and scoring."""
    gate: GatePolicy = Field(default_factory=GatePolicy)
    """When a candidate passes."""


AnyEvaluationConfig = EvaluationConfig | RunConfig


def for_scorers(policy: GatePolicy, names: Collection[str]) -> tuple[GatePolicy, list[str]]:
    """Return a policy without what it says of scorers that are not there, and what that was.

    Args:
        policy: the policy.
        names: the scorers that there are.
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
