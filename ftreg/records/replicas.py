"""Replicas: checkpoints of one recipe that differ only in their seed, in one folder.

`<group>/seed-<N>/` are ordinary checkpoints; `<group>/ftreg-replicas.json` lists them once all are
complete.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ftreg.errors import UsageError
from ftreg.files.finding import found_below
from ftreg.files.names import plain
from ftreg.files.store import damaged, digest, read_json, write_json
from ftreg.records.checkpoint import Checkpoint, read_checkpoint
from ftreg.records.layout import MANIFEST, REPLICAS
from ftreg.records.recipe import recipe_of

REPLICAS_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Replicas:
    """Checkpoints evaluated as one: the replicas of a group sorted by seed, or a single one."""

    folder: Path
    members: tuple[Checkpoint, ...]

    @property
    def first(self) -> Checkpoint:
        """The replica with the lowest seed; all share what does not depend on the seed."""
        return self.members[0]

    @property
    def seeds(self) -> list[int]:
        """The seed of each member."""
        return [member.manifest.training.seed for member in self.members]

    @property
    def identity(self) -> str:
        """A single checkpoint's identity, or one digest over those of the members."""
        found = [member.manifest.identity for member in self.members]
        return found[0] if len(found) == 1 else digest(found)

    @property
    def weights(self) -> str:
        """A single checkpoint's digest of its weights, or one digest over those of the members."""
        found = [member.manifest.weights.digest for member in self.members]
        return found[0] if len(found) == 1 else digest(found)

    @property
    def last_loss(self) -> float:
        """Mean loss per token at the last step, over the members."""
        return sum(member.manifest.training.last_loss for member in self.members) / len(
            self.members
        )

    def with_base(self, model: str) -> "Replicas":
        """Return the same replicas with another folder for the adapters' base, if it is one."""
        if model == self.first.manifest.base.model or not Path(model).is_dir():
            return self
        return replace(self, members=tuple(replace(one, base=model) for one in self.members))

    def seed_facts(self) -> dict[str, Any]:
        """Return the seed entries of a record: the only seed, or all with their identities."""
        if len(self.members) == 1:
            return {"seed": self.seeds[0]}
        identities = [member.manifest.identity for member in self.members]
        return {"seeds": self.seeds, "replicas": identities}

    def tracker_facts(self) -> dict[str, Any]:
        """Return the tracker entries of a record, for a single checkpoint."""
        found = self.first.manifest.trackers
        if len(self.members) > 1 or not found:
            return {}
        return {"trackers": {name: run.model_dump() for name, run in found.items()}}

    def recipe(self) -> dict[str, Any]:
        """Return the members' recipe, see `recipe_of`; a list if they differ, as in the seed."""
        recipes = [recipe_of(member.manifest) for member in self.members]
        found = {}
        for key in dict.fromkeys(key for recipe in recipes for key in recipe):
            values = [recipe.get(key) for recipe in recipes]
            found[key] = values[0] if all(value == values[0] for value in values) else values
        return found


def member_folder(group: Path, seed: int) -> Path:
    """Return the folder of the replica of a seed."""
    return group / f"seed-{seed}"


def members_below(group: Path) -> list[Path]:
    """Return the folders of the complete replicas, even if others are incomplete."""
    return sorted(path.parent for path in found_below(group, f"seed-*/{MANIFEST}"))


def write_replicas(group: Path, members: Sequence[Checkpoint]) -> None:
    """Write the record of a group whose replicas are complete.

    Raises:
        UsageError: it cannot be written.
    """
    write_json(
        group / REPLICAS,
        {
            "schema_version": REPLICAS_SCHEMA,
            "members": [
                {
                    "folder": member.folder.name,
                    "seed": member.manifest.training.seed,
                    "identity": member.manifest.identity,
                }
                for member in members
            ],
        },
    )


def read_replicas(folder: Path) -> Replicas:
    """Read a group of replicas, or a single checkpoint as a group of one.

    Raises:
        UsageError: there is no checkpoint, training has not ended, or a member is not the one named
            in the record.
    """
    path = folder / REPLICAS
    if not path.is_file():
        if not (folder / MANIFEST).is_file() and members_below(folder):
            raise UsageError(
                f"{folder}: not all of its replicas are trained; continue with `ftreg train CONFIG "
                f"--resume -o {folder}`, or name one of them, such as {members_below(folder)[0]}"
            )
        return Replicas(folder, (read_checkpoint(folder),))
    record = read_json(path, kind="record of replicas", schema=REPLICAS_SCHEMA)
    members = []
    with damaged(path, kind="record of replicas"):
        for item in record["members"]:
            member = read_checkpoint(folder / plain(item["folder"]))
            if member.manifest.identity != item["identity"]:
                raise UsageError(
                    f"{member.folder}: not the replica that {path} names (its identity differs); "
                    "restore it, or train the group again"
                )
            members.append(member)
        if not members:
            raise ValueError("it names no replica")
    by_seed = sorted(members, key=lambda member: member.manifest.training.seed)
    return Replicas(folder, tuple(by_seed))
