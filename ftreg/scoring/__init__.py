"""Scores of outputs: how faithful, relevant, complete or equal they are, with evidence.

Call `get_scorer("faithfulness").score(samples)`. Importing this loads no model library; a scorer
that needs one loads it when it is created.
"""

from ftreg.records.samples import Sample, Score
from ftreg.scoring.factory import BACKENDS, SCORERS, get_scorer
from ftreg.scoring.protocol import Backend, Scorer

__all__ = ["BACKENDS", "SCORERS", "Backend", "Sample", "Score", "Scorer", "get_scorer"]
