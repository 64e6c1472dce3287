"""How much scores change when outputs are generated again: the noise floor of an evaluation.

In bf16, if two tokens are almost equally likely, which one is chosen depends on the batch that a
prompt is computed in. The same checkpoint is run with another batch size; the difference is noise.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ftreg.records.samples import Score


def noise_floor(repeats: Sequence[Mapping[str, Sequence[Score]]]) -> dict[str, dict[str, Any]]:
    """Return, for each scorer, how far its mean moves when the outputs are generated again.

    Args:
        repeats: two or more; scorer to one score per example, in one order.

    Returns:
        For each scorer `n`, the number of examples with a score in every repeat; `means`, their
        mean in each repeat; and `standard_error` of such a mean. Both in [0, 1], None if n is 0.
        The noise of examples is assumed to be independent: with v_i the variance of example i over
        the repeats, the standard error is sqrt(sum v_i) / n. It uses all n examples; the distance
        of two means would be a single draw.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in repeats[0]:
        columns = zip(*([score.value for score in repeat[name]] for repeat in repeats), strict=True)
        rows = [row for row in columns if None not in row]
        means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        error = math.sqrt(sum(map(_variance, rows))) / len(rows) if rows else None
        found[name] = {"n": len(rows), "means": means or None, "standard_error": error}
    return found


def _variance(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)
