"""A checkpoint folder and its manifest: everything that made these weights.

Light on purpose: listing and comparing checkpoints loads no framework.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from ftreg.config.base import Section
from ftreg.config.sections import LoraConfig, RunConfig
from ftreg.errors import UsageError
from ftreg.store import damaged, digest, file_digest, read_json

MANIFEST = "ftreg.json"
REPLICAS = "ftreg-replicas.json"
"""The record of a group of replicas, see `ftreg.replicas`."""
SCHEMA_VERSION = 1


class BaseRecord(Section):
    """The base model that training started from."""

    model: str
    source: str
    revision: str | None
    digest: str
    trust_remote_code: bool


class DatasetRecord(Section):
    """The rows that training saw, and their order."""

    version: str
    digest: str
    split: str
    split_sha256: str
    rows: int
    order_digest: str


class ResumeRecord(Section):
    """A resumption: after which step, with which settings changed, in what other environment."""

    after_step: int
    changed: list[dict[str, Any]]
    environment: list[str]


class TrainingRecord(Section):
    """How the run went."""

    seed: int
    steps: int
    epochs: float
    batch_size: int
    micro_batch_tokens: int
    packing: bool
    compile: bool = False
    max_grad_norm: float | None
    precision: str
    processes: int
    threads: int
    examples: int
    tokens: int
    loss_tokens: int
    seconds: float
    first_loss: float
    last_loss: float
    best_loss: float
    healthy: bool
    loss_spikes: list[int] = Field(default_factory=list)
    """Steps whose loss stood far above those before."""
    resumed: list[ResumeRecord] = Field(default_factory=list)
    """One for each time that the run was continued from a saved state."""


class WeightsRecord(Section):
    """The weights' files: name to hex SHA-256, and one digest over them."""

    digest: str
    files: dict[str, str]


# People may write a model card later; nobody who loads the weights reads it.
UNHASHED = (MANIFEST, "README.md")


class Manifest(Section):
    """The manifest of a checkpoint, `ftreg.json`.

    `identity` is the digest of everything else in it but `created` and the seconds it took: two
    checkpoints with equal identity were made by the same recipe in the same environment and have
    the same weights. `files` are the other files of the folder: name to hex SHA-256.
    """

    schema_version: Literal[1] = 1
    identity: str
    created: str
    parent: str | None
    weights: WeightsRecord
    files: dict[str, str]
    base: BaseRecord
    dataset: DatasetRecord
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    lora: LoraConfig | None
    training: TrainingRecord
    environment: dict[str, Any]
    config: RunConfig


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint folder that has a manifest."""

    folder: Path
    manifest: Manifest

    def verify(self) -> None:
        """Check the bytes of weights, configuration and tokenizer against the manifest.

        Raises:
            UsageError: a file is missing or has other bytes.
        """
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


def seal(values: dict[str, Any], *, created: str) -> Manifest:
    """Make a manifest of its other fields, computing the identity."""
    draft = Manifest.model_validate({**values, "identity": "", "created": created})
    content = draft.model_dump(mode="json", exclude={"identity", "created"})
    return draft.model_copy(update={"identity": digest(_without_timing(content))})


def _without_timing(content: dict[str, Any]) -> dict[str, Any]:
    """Leave out how long it took: the same recipe made twice is the same checkpoint."""
    training = {key: value for key, value in content["training"].items() if key != "seconds"}
    # An interruption leaves no trace in the weights, and so none in the identity; a change does.
    training["resumed"] = [item for item in training["resumed"] if item["changed"]]
    files = {key: value for key, value in content["files"].items() if key != "history.jsonl"}
    return {**content, "training": training, "files": files}


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
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: damaged manifest: {key}: {first['msg']}") from error
    with damaged(path, kind="manifest"):
        content = {key: data[key] for key in data if key not in ("identity", "created")}
        if digest(_without_timing(content)) != manifest.identity:
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
