"""Which schema describes what a command prints as JSON."""

from collections.abc import Mapping

PRINTED: Mapping[str, Mapping[str, str]] = {
    "doctor": {"findings": ""},
    "train": {
        "training": "of one checkpoint",
        "group": "of replicas (`train.seeds`)",
        "series": "of several configurations",
    },
    "reproduce": {"reproduction": ""},
    "eval": {"verdict": "where it gates", "evaluated": "where there is no verdict"},
    "score": {"scoring": ""},
    "gate": {"verdict": ""},
    "compare": {"comparison": ""},
    "report": {"report": ""},
    "track": {"tracking": ""},
    "power": {"power": ""},
    "diff": {"recipe-difference": ""},
    "promote": {"promotion": ""},
    "baseline": {"promotions": ""},
    "clean": {"cleaning": ""},
    "data list": {"datasets": ""},
    "data show": {"dataset": ""},
    "data verify": {"verification": ""},
    "data import": {"importing": ""},
    "data freeze": {"freezing": ""},
    "data diff": {"dataset-difference": ""},
    "data leaks": {"leaks": ""},
    "checkpoints list": {"checkpoints": ""},
    "checkpoints show": {"checkpoint": "of one checkpoint", "group": "of replicas"},
    "models list": {"models": ""},
    "optim show": {"optimizer": ""},
    "optim convert": {"conversion": ""},
}
"""Command, as it is typed after `ftreg`, to the schemas of its JSON, each with when it is that one.

`checkpoints show` always prints JSON, and the others with `--json`.
"""
