"""A checkpoint folder and its manifest: everything that made these weights.

Light on purpose: listing and comparing checkpoints loads no framework.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ftreg.errors import UsageError
from ftreg.files.cache.untouched import file_state
from ftreg.files.checking import first_problem
from ftreg.files.store import damaged, file_digest, read_json
from ftreg.records.layout import MANIFEST, REPLICAS
from ftreg.records.manifest import Manifest, ModelFacts, digest_over, identity_of

MANIFEST_SCHEMA = 1

# People may write a model card later; nobody who loads the weights reads it.
UNHASHED = (MANIFEST, "README.md")
# What transformers and peft look for in a folder, beside weights and chat templates.
_LOOKED_FOR = frozenset(
    f"{name}.json"
    for name in (
        "config",
        "generation_config",
        "adapter_config",
        "tokenizer",
        "tokenizer_config",
        "special_tokens_map",
        "added_tokens",
        "chat_template",
        "vocab",
        "processor_config",
    )
) | {"merges.txt", "vocab.txt"}
_READ = (".jinja", ".safetensors", ".safetensors.index.json", ".model")


States = dict[str, list[int]]
"""Name of a file that is there to what changes when it does: size, times, inode."""


def states_of(folder: Path, names: Iterable[str] = ()) -> States:
    """Return the states of the files of a model's folder that decide what it writes.

    Taken before the files are digested and again after loading, they say whether what was loaded
    is what was digested.

    Args:
        folder: of the model.
        names: of files beside those that are known to decide.
    """
    found: States = {}
    for name in (*files_that_decide(folder), *names):
        with contextlib.suppress(OSError):
            found[name] = file_state(folder / name)
    return found


def refuse_changed_since(folder: Path, before: States) -> None:
    """End here if a file of a model was changed, added or removed since its states were taken.

    Raises:
        UsageError: one was.
    """
    if states_of(folder, before) != before:
        raise UsageError(
            f"{folder}: its files were changed while they were loaded; nothing was made with them. "
            "Try again when nothing writes there"
        )


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder with a model that can be run, whoever trained it, and the digests of its files.

    `base` is where the base model of adapters may lie, beside where the manifest says;
    `base_folder` is where the tokenizer lies, where adapters come without one.
    """

    folder: Path
    manifest: ModelFacts
    base: str | None = None
    base_folder: Path | None = None

    @property
    def tokenizer_folder(self) -> Path:
        """Where tokenizer and chat template lie."""
        return self.base_folder or self.folder

    def verify(self) -> States:
        """Check the bytes of weights, configuration and tokenizer against the manifest.

        Returns:
            The states of the files from before that, for `refuse_changed_since`.

        Raises:
            UsageError: a file is missing or has other bytes, or the manifest contradicts itself.
        """
        weights = self.manifest.weights
        states = states_of(self.folder, (*weights.files, *self.manifest.files))
        if weights.digest != digest_over(weights.files):
            raise UsageError(
                f"{self.folder / MANIFEST}: damaged manifest: weights.digest is not that of "
                "weights.files; restore it, or train again"
            )
        for name, expected in {**weights.files, **self.manifest.files}.items():
            path = self.folder / name
            if not path.is_file():
                raise UsageError(f"{path}: the manifest names this file, but it is missing")
            if file_digest(path) != expected:
                raise UsageError(
                    f"{path}: the file does not match the manifest (sha256 differs); restore it, "
                    "or train again"
                )
        self._refuse_added()
        return states

    def _refuse_added(self) -> None:
        """Refuse a file that is not in the manifest, but would be read with those that are."""
        known = {*self.manifest.weights.files, *self.manifest.files}
        for name in files_that_decide(self.folder):
            if name not in known:
                raise UsageError(
                    f"{self.folder / name}: this file may change what the checkpoint writes, and "
                    "the manifest does not name it; remove it from the folder, or train again"
                )


@dataclass(frozen=True, slots=True)
class Checkpoint(ModelFolder):
    """A checkpoint folder that has a manifest."""

    manifest: Manifest


def files_that_decide(folder: Path) -> list[str]:
    """Return the names of a folder's files that transformers and peft read, sorted."""
    names = {
        path.relative_to(folder).as_posix(): path
        for path in (*folder.glob("*"), *folder.glob("*/*.jinja"))
    }
    return sorted(
        name
        for name, path in names.items()
        if (name.endswith(_READ) or name in _LOOKED_FOR) and path.is_file()
    )


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint's manifest.

    Raises:
        UsageError: no folder, no manifest, or one that this ftreg cannot read.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: there is no such checkpoint folder")
    path = folder / MANIFEST
    if not path.is_file() and (folder / REPLICAS).is_file():
        raise UsageError(
            f"{folder} is a group of replicas; name one of them, such as "
            f"{min(folder.glob(f'seed-*/{MANIFEST}'), default=path).parent}"
        )
    if not path.is_file():
        raise UsageError(
            f"{folder}: a model folder without {MANIFEST}, so nobody knows which optimizer and "
            "data made it. `ftreg train` writes the manifest with the weights; for outputs of "
            "models made elsewhere use `ftreg score`."
        )
    data = read_json(path, kind="checkpoint manifest", schema=MANIFEST_SCHEMA)
    try:
        manifest = Manifest.model_validate(data, strict=False)
    except ValidationError as error:
        raise UsageError(f"{path}: damaged manifest: {first_problem(error)}") from error
    with damaged(path, kind="manifest"):
        if identity_of(data) != manifest.identity:
            raise UsageError(
                f"{path}: this manifest has changed since it was written (its identity differs); "
                "restore it from a copy, or train again"
            )
    return Checkpoint(folder, manifest)


def list_checkpoints(root: Path) -> list[Checkpoint]:
    """Return the checkpoints below `root`, however deep they lie, by name.

    Replicas and those written on the way are there too, but not what is hidden, nor what belongs to
    a run that has not ended.
    """
    return [read_checkpoint(path) for path in checkpoint_folders(root)]


def checkpoint_folders(root: Path, *, record: str = MANIFEST) -> list[Path]:
    """Return the folders below `root` that have this record, sorted.

    A link is followed unless it lies below another one, so that none leads round in a circle.
    """
    real, found = Path(os.path.realpath(root)), []
    for place, folders, files in os.walk(root, followlinks=True):
        folder = Path(place)
        linked = Path(os.path.realpath(place)) != real / folder.relative_to(root)
        folders[:] = [
            name
            for name in folders
            if not (_is_passed_over(name) or (linked and (folder / name).is_symlink()))
        ]
        if record in files and folder != root:
            found.append(folder)
    return sorted(found)


def _is_passed_over(name: str) -> bool:
    """Whether a folder holds what is no checkpoint yet, or those of a proof (`ftreg blame`)."""
    return name.startswith(".") or name.endswith((".state", ".failed", ".blame"))


def midway_root(output: Path) -> Path:
    """Return where the checkpoints lie that a run writes on its way to `output`."""
    return output.with_name(f"{output.name}.steps")


def list_midway(output: Path) -> list[Path]:
    """Return the folders of the checkpoints that a run wrote on its way, the oldest first."""
    return sorted(path.parent for path in midway_root(output).glob(f"step-*/{MANIFEST}"))


def checkpoint_name(folder: Path) -> str:
    """Return what a checkpoint's folder is called; one written on the way, with its run."""
    run = folder.parent
    return f"{run.name}/{folder.name}" if run.suffix == ".steps" else folder.name
