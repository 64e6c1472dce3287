"""A checkpoint folder and its manifest: everything that made these weights.

Light on purpose: listing and comparing checkpoints loads no framework.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ftreg.errors import UsageError
from ftreg.files.checking import first_problem
from ftreg.files.store import damaged, file_digest, read_json
from ftreg.manifest import Manifest, digest_over, identity_of

MANIFEST = "ftreg.json"
REPLICAS = "ftreg-replicas.json"
"""The record of a group of replicas, see `ftreg.replicas`."""
SCHEMA_VERSION = 1

# People may write a model card later; nobody who loads the weights reads it.
UNHASHED = (MANIFEST, "README.md")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint folder that has a manifest."""

    folder: Path
    manifest: Manifest

    def verify(self) -> None:
        """Check the bytes of weights, configuration and tokenizer against the manifest.

        Raises:
            UsageError: a file is missing or has other bytes, or the manifest contradicts itself.
        """
        weights = self.manifest.weights
        if weights.digest != digest_over(weights.files):
            raise UsageError(
                f"{self.folder / MANIFEST}: damaged manifest: weights.digest is not that of "
                "weights.files; restore it, or train again"
            )
        for name, expected in {**self.manifest.weights.files, **self.manifest.files}.items():
            path = self.folder / name
            if not path.is_file():
                raise UsageError(f"{path}: the manifest names this file, but it is missing")
            if file_digest(path) != expected:
                raise UsageError(
                    f"{path}: the file is not that of the manifest (sha256 differs); restore it, "
                    "or train again"
                )


def recipe_of(manifest: Manifest) -> dict[str, Any]:
    """Return what made a checkpoint as flat `section.key` to value: for telling two apart.

    How it went (losses, seconds) and on which machine is left out; library versions are in.
    """
    training = manifest.training.model_dump(
        include={"seed", "steps", "batch_size", "max_grad_norm", "precision", "processes"}
    )
    sections: dict[str, Any] = {
        "base": manifest.base.model_dump(include={"model", "revision", "digest"}),
        "dataset": manifest.dataset.model_dump(include={"version", "digest", "split", "rows"}),
        "optimizer": {
            "name": manifest.optimizer["name"],
            "implementation": manifest.optimizer["implementation"],
            "decay_coupling": manifest.optimizer["decay_coupling"],
            **manifest.optimizer["arguments"],
        },
        "schedule": manifest.schedule,
        "training": training | _changed_on_the_way(manifest),
        "lora": manifest.lora.model_dump() if manifest.lora else {},
        "versions": manifest.environment["versions"],
    }
    return {
        f"{section}.{key}": value
        for section, values in sections.items()
        for key, value in values.items()
    }


def _changed_on_the_way(manifest: Manifest) -> dict[str, Any]:
    return {
        f"{change['key']} after step {item.after_step}": change["new"]
        for item in manifest.training.resumed
        for change in item.changed
    }


def recipe_differences(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> list[tuple[str, Any, Any]]:
    """Return (key, old value, new value) where two recipes differ; None where a key is absent."""
    return [
        (key, old.get(key), new.get(key))
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


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
    data = read_json(path, kind="checkpoint manifest", schema=SCHEMA_VERSION)
    try:
        manifest = Manifest.model_validate(data, strict=False)
    except ValidationError as error:
        raise UsageError(f"{path}: damaged manifest: {first_problem(error)}") from error
    with damaged(path, kind="manifest"):
        if identity_of(data) != manifest.identity:
            raise UsageError(
                f"{path}: this manifest has changed since it was written (its identity differs); "
                "bring it back from a copy, or train again"
            )
    return Checkpoint(folder, manifest)


def list_checkpoints(root: Path) -> list[Checkpoint]:
    """Return the checkpoints below `root`, replicas too, by name."""
    return [
        read_checkpoint(path.parent)
        for path in sorted([*root.glob(f"*/{MANIFEST}"), *root.glob(f"*/seed-*/{MANIFEST}")])
        if not path.relative_to(root).parts[0].startswith(".")
    ]
