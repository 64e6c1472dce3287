"""Run small cases with a known score range through the scorers, and list those outside it.

    python scripts/check_cases.py FILE [FILE ...]

Files are JSONL, one case per line: `id, kind, scorer, low, high`, the fields of a sample and
`options`. A case holds if its score is in [low, high]; a null score never holds. Exits with 1 if
fewer than 95 % hold.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ftreg.records.samples import Sample
from ftreg.scoring.factory import get_scorer

ENOUGH = 0.95


def sample(case: dict[str, Any]) -> Sample:
    """Return the scorer's input for a case."""
    return Sample(
        id=case["id"],
        input=case.get("input", ""),
        output=case["output"],
        reference=case.get("reference"),
        context=case.get("context"),
    )


def scores(cases: list[dict[str, Any]]) -> list[float | None]:
    """Return the score of each case."""
    found: dict[int, float | None] = {}
    groups: dict[tuple[str, str], list[int]] = {}
    for place, case in enumerate(cases):
        key = (case["scorer"], json.dumps(case.get("options", {}), sort_keys=True))
        groups.setdefault(key, []).append(place)
    for (name, options), places in groups.items():
        scorer = get_scorer(name, **json.loads(options))
        made = scorer.score([sample(cases[place]) for place in places])
        found |= {place: score.value for place, score in zip(places, made, strict=True)}
    return [found[place] for place in range(len(cases))]


def main() -> None:
    """Print the share of cases that hold by kind, and each case that does not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    cases = [
        json.loads(line)
        for file in parser.parse_args().files
        for line in file.read_text("utf-8").splitlines()
    ]
    all_of, held = Counter[str](), Counter[str]()
    console = Console()
    for case, value in zip(cases, scores(cases), strict=True):
        all_of[case["kind"]] += 1
        if value is not None and case["low"] <= value <= case["high"]:
            held[case["kind"]] += 1
            continue
        shown = {key: case[key] for key in ("input", "context", "reference") if case.get(key)}
        said = "none" if value is None else f"{value:.2f}"
        console.print(
            f"{case['id']}: {case['scorer']} {said}, not in [{case['low']}, {case['high']}]: "
            f"{case['output'][:100]!r} {shown}",
            markup=False,
        )
    table = Table(title=f"{held.total()} of {all_of.total()} hold")
    for heading in ("kind", "hold", "of"):
        table.add_column(heading)
    for kind, count in all_of.items():
        table.add_row(kind, str(held[kind]), str(count))
    console.print(table)
    raise SystemExit(held.total() < ENOUGH * all_of.total())


if __name__ == "__main__":
    main()
