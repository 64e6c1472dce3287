"""Versioned datasets: names, cards, rows and their digests."""

from ftreg.data.card import Card
from ftreg.data.dataset import DatasetVersion, Split, load_dataset
from ftreg.data.reference import DatasetRef, list_refs, parse_ref

__all__ = [
    "Card",
    "DatasetRef",
    "DatasetVersion",
    "Split",
    "list_refs",
    "load_dataset",
    "parse_ref",
]
