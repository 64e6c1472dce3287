"""Builders: dataset versions whose rows are made from a recipe and not committed.

A recipe is a `recipe.yaml` beside the card. It pins its sources by digest and the builder is
deterministic, so the card's digests hold whenever and wherever the version is built.
"""

from collections.abc import Mapping
from pathlib import Path

from ftreg.config import custom_code
from ftreg.config.registry import Registry
from ftreg.errors import UsageError
from ftreg.files import marked_yaml

BUILDERS = Registry("builder", {"docstrings": "ftreg.data.builders.docstrings:run"})
"""Each takes the path of a recipe and a folder, and returns the file written for each split."""


def build_splits(recipe: Path, folder: Path) -> Mapping[str, Path]:
    """Make the rows of a recipe, with the builder that it names.

    Args:
        recipe: a `recipe.yaml`.
        folder: where the splits are written.

    Returns:
        The file of each split.

    Raises:
        UsageError: the recipe is invalid, its sources are not available, or its builder is
            forbidden code.
    """
    document = marked_yaml.read(recipe)
    name = document.data.get("builder")
    if not isinstance(name, str):
        raise UsageError(f"{recipe}: `builder` must name one of {', '.join(BUILDERS)}")
    if custom_code.names_code(name):
        custom_code.refuse(name, place=f"{document.marks[('builder',)]}: builder")
    written: Mapping[str, Path] = BUILDERS.load(name)(recipe, folder)
    return written
