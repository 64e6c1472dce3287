"""The folders of checkpoints, evaluations and baselines, and the words that refer to them."""

import os
from dataclasses import dataclass
from pathlib import Path

from ftreg.errors import UsageError, did_you_mean
from ftreg.records.layout import HEADER, MANIFEST

REFERENCE_WORDS = ("baseline", "anchor", "latest")
"""Words that refer to an evaluation. A file or folder of that name must be given as `./latest`:
otherwise adding one to a checkout could change which evaluation is judged."""


def names_file(reference: str) -> bool:
    """Whether a reference is the path of a file rather than one of the words."""
    return reference not in REFERENCE_WORDS and Path(reference).is_file()


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder with `checkpoints/`, `evaluations/` and `baselines/`."""

    root: Path

    @classmethod
    def current(cls) -> "Workspace":
        """The folder named by `$FTREG_WORKSPACE`, or the working folder."""
        return cls(Path(os.environ.get("FTREG_WORKSPACE", ".")))

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.root / "checkpoints"

    @property
    def evaluations(self) -> Path:
        """The folder of evaluations."""
        return self.root / "evaluations"

    @property
    def baselines(self) -> Path:
        """The folder of baselines, to be kept in git."""
        return self.root / "baselines"

    def checkpoint(self, ref: str) -> Path:
        """Find a checkpoint by its folder, or by its name below `checkpoints/`."""
        named = self.checkpoints / ref
        if Path(ref).is_dir() or not named.is_dir():
            return Path(ref)  # the reader checks whether it is a checkpoint
        return named

    def evaluation(self, ref: str) -> Path:
        """Find an evaluation by its folder, its id, or the word `latest`.

        Raises:
            UsageError: there is none; suggests the closest name.
        """
        # Loads the models of the records, which tab completion does not need.
        from ftreg.records.evaluation.listing import list_evaluations

        if ref == "latest":
            found = list_evaluations(self.evaluations)
            if not found:
                raise UsageError(
                    f"{self.evaluations}: there is no evaluation yet; "
                    "`ftreg eval CHECKPOINT` creates one"
                )
            return found[-1]
        for folder in (Path(ref), self.evaluations / ref):
            if (folder / HEADER).is_file():
                return folder
        if (Path(ref) / MANIFEST).is_file():
            raise UsageError(
                f"{ref} is a checkpoint, not an evaluation; evaluate it with `ftreg eval {ref}`"
            )
        known = [folder.name for folder in list_evaluations(self.evaluations)]
        raise UsageError(
            f"{ref!r} is not an evaluation: no such folder, and no such id in {self.evaluations}"
            f"{did_you_mean(ref, known)}"
        )
