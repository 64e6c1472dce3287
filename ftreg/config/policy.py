"""The gate's policy: when a candidate passes, and when there is too little evidence to tell."""

import math
from typing import Annotated, Literal

from pydantic import Field, field_validator

from ftreg.config.base import Count, Section, Share

_ZERO_MARGIN = (
    "a margin of 0 can never be passed: however many examples there are, the interval around the "
    "delta of two equal models reaches below 0. Choose the largest drop you would accept, "
    "such as 0.02"
)


def _refuse_zero(value: object) -> object:
    if isinstance(value, (int, float)) and value == 0:
        raise ValueError(_ZERO_MARGIN)
    return value


Margin = Annotated[float, Field(gt=0, le=1)]


class Collapse(Section):
    """How many examples may drop far. A mean can hide these."""

    drop: Margin = 0.5
    """An example has collapsed if its score dropped by at least this."""
    share: Margin = 0.02
    """For a pass, the share of collapsed examples must be shown to be below this."""


class Budgets(Section):
    """What an answer may cost, whatever the baseline's cost. null sets no budget."""

    tokens_per_answer: Annotated[float, Field(gt=0)] | None = None
    """The mean number of new tokens per output. It is broken if the confidence interval of the
    candidate's mean is entirely above it."""
    seconds_per_token: Annotated[float, Field(gt=0)] | None = None
    """Decoding time in seconds divided by the number of generated tokens. Time is noisy and
    includes the effect of other work on the machine: set it well above what you observe, and only
    for evaluations on one otherwise idle machine."""


class GatePolicy(Section):
    """When a candidate passes against a baseline. Every field has a default."""

    margin: Margin = 0.02
    """The allowed mean drop: 0.02 (2 points of 100) lets a mean of 0.80 fall to 0.78."""
    margins: dict[str, Margin] = Field(default_factory=dict)
    """Margins of single scorers, by name, that differ from `margin`."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.95
    """Confidence of the two-sided interval; 1 - confidence is the level of the regression test."""
    mode: Literal["paired", "threshold"] = "paired"
    """paired decides by statistics; threshold compares the plain mean delta with the margin."""
    max_missing: Share = 0.0
    """Share of the examples that may lack a score on either side. Above it a scorer cannot pass."""
    max_leaked: Share | None = None
    """Share of the evaluated rows that may also be in the checkpoint's training rows. Above it a
    candidate cannot pass. null only reports the share."""
    min_examples: Count | None = None
    """Fewest examples on which a scorer or cohort may pass (a regression needs no minimum). null
    uses as many as would reveal a collapse as large as the margin: 59 for 0.05, 149 for 0.02."""
    min_cohort: Count = 20
    """Cohorts with fewer examples are shown but not gated."""
    min_clusters: Count | None = None
    """Fewest clusters on which a scorer or cohort may pass, if the dataset has clusters. null uses
    as many as `min_examples: null`."""
    cohorts: Literal["all"] | list[str] = Field(default_factory=list)
    """Cohorts that must pass too: `all`, or tags and `tag=value`. The others can only regress."""
    unseen_drop: Share = 0.0
    """Accepted but unused: since 0.2 a pass always accounts for unseen examples that lose
    everything."""
    anchor_margin: Margin = 0.05
    """The allowed drop from the anchor, over all candidates since it was pinned."""
    artefact_margin: Margin | None = None
    """The allowed mean drop of another form of the same checkpoint (a quantized file, another
    engine), for every scorer. null uses the margins for a different checkpoint."""
    critical_tolerance: Share | None = None
    """A critical example got worse if its score dropped by more than this. null estimates how much
    scores vary between the two sides and between generations: 0 for scores with few levels that
    were generated once. A drop of more than 0.1 that may be chance is undecided."""
    floors: dict[str, Share] = Field(default_factory=dict)
    """Lowest allowed means, by scorer, whatever the baseline's mean."""
    budgets: Budgets = Field(default_factory=Budgets)
    """What answers may cost: `{tokens_per_answer: 40}`. A broken budget is a regression."""
    collapse: Collapse | None = None
    """What a mean can hide: `{drop: 0.5, share: 0.02}` lets a scorer pass only if fewer than 2 % of
    the examples drop by 0.5 or more. null only counts them, with that drop."""
    spend_error: bool = False
    """Bound the probability of a false pass, over all looks at the rows of a dataset version
    together, by 1 - confidence: each later candidate needs stronger evidence, against the anchor
    too."""
    allow_undecided: bool = False
    """Let an undecided verdict exit with 0, unless a row is certainly worse. The verdict itself
    still says undecided."""
    allow_worse: bool = False
    """With `allow_undecided`: exit with 0 even if a row is certainly worse, by a drop that may be
    within its margin."""
    constant: list[str] = Field(default_factory=list)
    """Scorers that may give every example of both sides the same score. The row of any other such
    scorer cannot pass, because a stuck scorer says nothing."""
    resamples: Annotated[int, Field(ge=999, le=1_000_000)] = 9999
    """Accepted but unused: since 0.2 intervals and tests do not resample."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the simulation of what more examples would show. No outcome depends on it."""

    @field_validator("margin", "anchor_margin", "artefact_margin", mode="before")
    @classmethod
    def _margin_above_zero(cls, value: object) -> object:
        return _refuse_zero(value)

    @field_validator("margins", mode="before")
    @classmethod
    def _margins_above_zero(cls, value: object) -> object:
        if isinstance(value, dict):
            for margin in value.values():
                _refuse_zero(margin)
        return value

    def least_units(self, margin: float, *, clustered: bool = False) -> int:
        """Return the fewest examples, or clusters, on which a row may pass.

        Unless the policy sets a number, it is the smallest n with (1 - margin) ** n at most 1 -
        confidence: if a share `margin` of all units collapsed, fewer would too often contain none
        of them.
        """
        asked = self.min_clusters if clustered else self.min_examples
        if asked is not None:
            return asked
        return fewest_to_show(margin, confidence=self.confidence)

    def margin_for(self, scorer: str) -> float:
        """Return the margin of `scorer`."""
        return self.margins.get(scorer, self.margin)

    def for_other_form(self) -> "GatePolicy":
        """Return the policy for another form of the baseline's own checkpoint."""
        if self.artefact_margin is None:
            return self
        return self.model_copy(update={"margin": self.artefact_margin, "margins": {}})

    def requires(self, cohort: str) -> bool:
        """Return whether `cohort`, a `tag=value`, must pass rather than merely not regress."""
        return self.cohorts == "all" or any(
            cohort == name or cohort.startswith(f"{name}=") for name in self.cohorts
        )


def fewest_to_show(share: float, *, confidence: float) -> int:
    """Return how many units contain one of a `share` in (0, 1] with probability `confidence`."""
    return 1 if share >= 1 else math.ceil(math.log(1 - confidence) / math.log1p(-share))


def collapse_rule(policy: GatePolicy) -> Collapse:
    """Return what counts as a collapse, whether or not the policy limits collapses."""
    return policy.collapse or Collapse()


_LARGER_IS_LOOSER = ("max_missing", "anchor_margin")
_SMALLER_IS_LOOSER = ("confidence", "min_cohort")


def loosened(old: GatePolicy, new: GatePolicy) -> list[str]:
    """Return, in words, where `new` lets pass what `old` would not."""
    found = []
    for scorer in sorted({*old.margins, *new.margins}):
        if new.margin_for(scorer) > old.margin_for(scorer):
            found.append(
                f"margins.{scorer} {new.margin_for(scorer):g}, was {old.margin_for(scorer):g}"
            )
    if new.margin > old.margin:
        found.append(f"margin {new.margin:g}, was {old.margin:g}")
    for names, sign in ((_LARGER_IS_LOOSER, 1), (_SMALLER_IS_LOOSER, -1)):
        for name in names:
            before, after = getattr(old, name), getattr(new, name)
            if sign * after > sign * before:
                found.append(f"{name} {after:g}, was {before:g}")
    for name, clustered in (("min_examples", False), ("min_clusters", True)):
        # At one margin: the effect of another margin is reported as the margin's.
        before, after = (each.least_units(old.margin, clustered=clustered) for each in (old, new))
        if after < before:
            found.append(f"{name} {after}, was {before}")
    for scorer, floor in sorted(old.floors.items()):
        if (after := new.floors.get(scorer, 0.0)) < floor:
            found.append(f"floors.{scorer} {after:g}, was {floor:g}")
    for name, budget in old.budgets:
        asked = getattr(new.budgets, name)
        if budget is not None and (asked is None or asked > budget):
            after = "null" if asked is None else f"{asked:g}"
            found.append(f"budgets.{name} {after}, was {budget:g}")
    found += [f"constant with {name}" for name in new.constant if name not in old.constant]
    found += _collapse_loosened(old.collapse, new.collapse)
    tolerated = [policy.critical_tolerance or 0.0 for policy in (old, new)]
    if tolerated[1] > tolerated[0]:
        found.append(f"critical_tolerance {tolerated[1]:g}, was {tolerated[0]:g}")
    # null checks nothing, so it is looser than any share.
    if old.max_leaked is not None and (new.max_leaked is None or new.max_leaked > old.max_leaked):
        after = "null" if new.max_leaked is None else f"{new.max_leaked:g}"
        found.append(f"max_leaked {after}, was {old.max_leaked:g}")
    if old.spend_error and not new.spend_error:
        found.append("spend_error false, was true")
    if (old.mode, new.mode) == ("paired", "threshold"):
        found.append("mode threshold, was paired")
    if old.cohorts != new.cohorts and new.cohorts != "all":
        lost = ["all"] if old.cohorts == "all" else sorted(set(old.cohorts) - set(new.cohorts))
        found += [f"cohorts without {name}" for name in lost]
    return found


def _collapse_loosened(old: Collapse | None, new: Collapse | None) -> list[str]:
    if old is None:
        return []
    if new is None:
        return [f"collapse null, was {{drop: {old.drop:g}, share: {old.share:g}}}"]
    return [
        f"collapse.{name} {after:g}, was {before:g}"
        for name, before, after in (
            ("drop", old.drop, new.drop),
            ("share", old.share, new.share),
        )
        if after > before
    ]
