"""The cost of earlier looks at the same rows: error levels that all looks share.

A look is one candidate judged on the rows of one dataset version. Two things go wrong with many
looks. First, the baseline was chosen for its score on these rows, and owes part of it to chance:
`Looks.chosen_from` corrects for this in the tests of a drop. Second, of many candidates at the
margin one passes by chance, especially if each was made from the last that did: `Looks.spent_level`
corrects for this in the decision on a pass.
"""

import math
from dataclasses import dataclass

from pydantic import ConfigDict

from ftreg.config.policy import GatePolicy

LEAST_LEVEL = 1e-12
"""Below it no tail is computed well enough, and nothing passes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """How often the rows had been used for a verdict when a candidate was judged."""

    # The docstrings below the fields are their descriptions in the schemas.
    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)

    number: int = 1
    """1 for the first candidate judged on the rows of this dataset version."""
    promoted: int = 0
    """How many of the earlier ones were promoted."""
    unheld: int = 1
    """Candidates seen on these rows before there was a baseline to compare them with."""
    chosen_from: int = 1
    """Candidates seen on these rows when the baseline was chosen, including itself."""
    anchor_from: int = 1
    """The same for the anchor."""

    def __post_init__(self) -> None:
        least = {"number": 1, "promoted": 0, "unheld": 1, "chosen_from": 1, "anchor_from": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be {low} or more")
        if self.promoted >= self.number:
            raise ValueError("only looks before this one, numbered from 1, can have been promoted")

    def drop_levels(self, error: float) -> dict[str, float]:
        """Return the level at which one row regresses, by what the candidate is compared with.

        Each of the candidates that a side was chosen from could have been that side, and a test of
        a drop has its error for each of them: Bonferroni's bound over these.

        Args:
            error: allowed for the tests of all of them.
        """
        return {"baseline": error / self.chosen_from, "anchor": error / self.anchor_from}

    def spent_level(self, error: float) -> float:
        """Return the part of an error probability that this look may spend.

        All looks together spend at most `error`, for candidates made with no knowledge of these
        rows beyond which earlier ones were promoted. That knowledge has C(number - 1, promoted)
        forms for each number of promotions, and each leads to one candidate, one baseline and one
        anchor out of promoted + 1. A look divides its share, 6 / (pi number)^2 of the error, among
        them. Blum and Hardt, "The Ladder", ICML 2015, also bound the effect of feedback by counting
        its forms.

        Args:
            error: of all looks together, in (0, 1).
        """
        share = 6 / (math.pi * self.number) ** 2
        courses = self.number * math.comb(self.number - 1, self.promoted)
        return error * share / (courses * (self.promoted + 1) * self.unheld)


def pass_level(policy: GatePolicy, looks: Looks) -> float:
    """Return the error of the intervals that decide a pass."""
    error = 1 - policy.confidence
    spends = policy.spend_error and policy.mode == "paired"
    return looks.spent_level(error) if spends else error


def spent(policy: GatePolicy, looks: Looks) -> float | None:
    """Return the intervals' error if it is specific to this look; None: the policy's own."""
    level = pass_level(policy, looks)
    return None if level == 1 - policy.confidence else max(level, LEAST_LEVEL)


def pass_policy(policy: GatePolicy, looks: Looks) -> GatePolicy:
    """Return the policy with the confidence that a pass needs; a regression needs the policy's."""
    level = max(pass_level(policy, looks), LEAST_LEVEL)
    return policy.model_copy(update={"confidence": 1 - level})
