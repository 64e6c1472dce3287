"""The gate: paired comparison of two checkpoints' scores, and the verdict. Pure, no I/O."""

from ftreg.config.policy import GatePolicy
from ftreg.gate.budgets import CostRow, Costs
from ftreg.gate.interval import Interval
from ftreg.gate.paired import Probes, compare
from ftreg.gate.sequence import Order
from ftreg.gate.spending import Looks
from ftreg.gate.verdict import CriticalDrop, Outcome, Row, Verdict

__all__ = [
    "CostRow",
    "Costs",
    "CriticalDrop",
    "GatePolicy",
    "Interval",
    "Looks",
    "Order",
    "Outcome",
    "Probes",
    "Row",
    "Verdict",
    "compare",
]
