"""A checkpoint folder and its manifest: everything that produced these weights.

Deliberately light: listing and comparing checkpoints loads no framework.
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

# A model card may be added later; loading the weights does not read it.
UNHASHED = (MANIFEST, "README.md")
# Files that transformers and peft read from a folder, besides weights and chat templates.
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
"""Name of an existing file to its state: size, times, inode."""


def states_of(folder: Path, names: Iterable[str] = ()) -> States:
    """Return the states of the files in a model's folder that affect its outputs.

    Taken before digesting and again after loading, they show whether the loaded files are the
    digested ones.

    Args:
        folder: of the model.
        names: further files, besides those known to affect outputs.
    """
    found: States = {}
    for name in (*files_that_decide(folder), *names):
        with contextlib.suppress(OSError):
            found[name] = file_state(folder / name)
    return found


def refuse_changed_since(folder: Path, before: States) -> None:
    """Refuse a model if a file was changed, added or removed since its states were taken.

    Raises:
        UsageError: one was.
    """
    if states_of(folder, before) != before:
        raise UsageError(
            f"{folder}: its files were changed while they were loaded; nothing was written. Try "
            "again when no other process writes there"
        )


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder with a runnable model, trained by ftreg or not, and the digests of its files.

    `base` is an alternative location of the adapters' base model, besides the one in the manifest.
    `base_folder` contains the tokenizer if adapters come without one.
    """

    folder: Path
    manifest: ModelFacts
    base: str | None = None
    base_folder: Path | None = None

    @property
    def tokenizer_folder(self) -> Path:
        """The folder of tokenizer and chat template."""
        return self.base_folder or self.folder

    def verify(self) -> States:
        """Check the bytes of weights, configuration and tokenizer against the manifest.

        Returns:
            The states of the files before the check, for `refuse_changed_since`.

        Raises:
            UsageError: a file is missing or has changed, or the manifest contradicts itself.
        """
        weights = self.manifest.weights
        states = states_of(self.folder, (*weights.files, *self.manifest.files))
        if weights.digest != digest_over(weights.files):
            raise UsageError(
                f"{self.folder / MANIFEST}: damaged manifest: weights.digest does not match "
                "weights.files; restore it, or train again"
            )
        for name, expected in {**weights.files, **self.manifest.files}.items():
            path = self.folder / name
            if not path.is_file():
                raise UsageError(f"{path}: this file is missing, but listed in the manifest")
            if file_digest(path) != expected:
                raise UsageError(
                    f"{path}: the file does not match the manifest (sha256 differs); restore it, "
                    "or train again"
                )
        self._refuse_added()
        return states

    def _refuse_added(self) -> None:
        """Refuse a file that is not in the manifest but would be loaded with those that are."""
        known = {*self.manifest.weights.files, *self.manifest.files}
        for name in files_that_decide(self.folder):
            if name not in known:
                raise UsageError(
                    f"{self.folder / name}: this file may change the checkpoint's outputs, but is "
                    "not listed in the manifest; remove it from the folder, or train again"
                )


@dataclass(frozen=True, slots=True)
class Checkpoint(ModelFolder):
    """A checkpoint folder with a manifest."""

    manifest: Manifest


def files_that_decide(folder: Path) -> list[str]:
    """Return the names of the files in a folder that transformers and peft read, sorted."""
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
        UsageError: there is no folder or manifest, or this ftreg cannot read it.
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
            f"{folder}: a model folder without {MANIFEST}, so its optimizer and data are unknown. "
            "`ftreg train` writes the manifest with the weights; for outputs of models made "
            "elsewhere use `ftreg score`."
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
    """Return the checkpoints below `root`, at any depth, by name.

    Includes replicas and intermediate checkpoints, but no hidden folders and no unfinished runs.
    """
    return [read_checkpoint(path) for path in checkpoint_folders(root)]


def checkpoint_folders(root: Path, *, record: str = MANIFEST) -> list[Path]:
    """Return the folders below `root` that have this record, sorted.

    A link is followed unless it is below another link, so that there are no cycles.
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
    """Whether a folder holds unfinished checkpoints, or those of a proof (`ftreg blame`)."""
    return name.startswith(".") or name.endswith((".state", ".failed", ".blame"))


def midway_root(output: Path) -> Path:
    """Return the folder of the intermediate checkpoints of a run that writes to `output`."""
    return output.with_name(f"{output.name}.steps")


def list_midway(output: Path) -> list[Path]:
    """Return the folders of a run's intermediate checkpoints, oldest first."""
    return sorted(path.parent for path in midway_root(output).glob(f"step-*/{MANIFEST}"))


def checkpoint_name(folder: Path) -> str:
    """Return the name of a checkpoint's folder; for an intermediate one, with its run."""
    run = folder.parent
    return f"{run.name}/{folder.name}" if run.suffix == ".steps" else folder.name
