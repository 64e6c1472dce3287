"""Content as headings, tables and sentences, independent of the output format."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextSection:
    """A heading, a table of text (cells may have several lines), and sentences below it."""

    title: str
    headings: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    sentences: Sequence[str] = ()
