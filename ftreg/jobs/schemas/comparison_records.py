"""The records of a comparison: what `ftreg compare --json` prints, and routes.yaml.

Keys may be added within a schema version, so that none of these is closed.
"""

from typing import Any, NotRequired

from typing_extensions import TypedDict  # typing's own before Python 3.12 does not keep enough

from ftreg.config.policy import GatePolicy
from ftreg.files.checking import documented
from ftreg.gate.contest import Contest


@documented
class Compared(TypedDict):
    """One of the evaluations of a comparison."""

    id: str
    """Its name, that of its folder."""
    label: str
    """How tables name it: optimizer and learning rate."""
    checkpoint: str
    """The folder's name of the checkpoint that was evaluated."""
    identity: str
    """Digest of its manifest; of replicas, over those of all."""
    optimizer: str
    """What it was trained with."""
    lr: float
    """At which learning rate."""


@documented
class Dominated(TypedDict):
    """An evaluation with another that is nowhere worse by its means, and somewhere better."""

    evaluation: str
    """Its id."""
    by: str
    """Id of the other."""
    told_apart: list[str]
    """The scorers by which the two are told apart; none where it may be chance."""


@documented
class Pareto(TypedDict):
    """Which evaluations no other dominates, by their means over all examples."""

    scorers: list[str]
    """Those that count: every evaluation has a mean of them."""
    front: list[str]
    """Ids of those that no other dominates."""
    dominated: list[Dominated]
    """The rest."""


@documented
class PrintedComparison(TypedDict):
    """What `ftreg compare --json` prints."""

    schema_version: int
    """Version of this form; it goes up when the meaning of a key does."""
    ftreg: str
    """The version that compared."""
    dataset: str
    """`name@N`."""
    against: str
    """Id of the evaluation that the others are held against."""
    evaluations: list[Compared]
    """In the order in which they were asked for."""
    contests: list[Contest]
    """One per scorer over all examples, then one per cohort and scorer."""
    pareto: Pareto
    """Who is not dominated."""
    notes: list[str]
    """What the intervals do not cover."""
    policy: GatePolicy
    """What intervals and tests were made by; the schema `policy` describes it."""
    routes: NotRequired[dict[str, Any]]
    """With --routes; the schema `routes` describes it."""


@documented
class Served(TypedDict):
    """A checkpoint that requests go to."""

    checkpoint: str
    """Its folder's name."""
    identity: str
    """Digest of its manifest; of replicas, over those of all."""
    evaluation: str
    """Id of the evaluation that speaks for it."""
    optimizer: str
    lr: float


@documented
class Route(Served):
    """What serves one value of the tag."""

    better: bool
    """Whether it is told apart from the default, and better; false for the default itself."""
    better_by: list[str]
    """The scorers by which it is."""
    examples: int
    """Examples of the cohort that were compared; of several scorers, the fewest."""
    scores: dict[str, float | None]
    """Scorer to the mean score in the cohort, in [0, 1]."""
    default_scores: dict[str, float | None]
    """The same of the default."""


@documented
class RoutesFile(TypedDict):
    """`routes.yaml`: which checkpoint serves which cohort."""

    schema_version: int
    ftreg: str
    """The version that wrote it."""
    dataset: str
    """`name@N`: what it was decided on."""
    dataset_digest: str
    tag: str
    """The tag of a request that decides where it goes."""
    confidence: float
    """Of the intervals; the level of the tests is what it leaves of 1."""
    default: Served
    """Serves requests without the tag, and values that have no route."""
    routes: dict[str, Route]
    """The tag's value to what serves it."""
