"""What can be evaluated: checkpoints, models not trained by ftreg, outputs from elsewhere."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftreg.config.sections import BaseConfig
from ftreg.data import Split
from ftreg.data.sources.given_outputs import GivenOutputs, match_outputs, read_given_outputs
from ftreg.errors import UsageError, did_you_mean
from ftreg.files.names import check_name
from ftreg.files.store import digest
from ftreg.jobs.generate import Round
from ftreg.models.packaged import PACKAGED
from ftreg.records.checkpoint import ModelFolder, checkpoint_name
from ftreg.records.evaluation.header import ELSEWHERE
from ftreg.records.layout import MANIFEST, REPLICAS
from ftreg.records.recipe import UNKNOWN, unknown_recipe
from ftreg.records.replicas import Replicas, members_below, read_replicas
from ftreg.records.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The subject of an evaluation.

    `summary` is the `checkpoint` of an evaluation's header. `members` are the generating models by
    seed (None for a single one), and empty if the outputs are `given`. `replicas` are those that
    ftreg trained, None for everything else.
    """

    name: str
    summary: Mapping[str, Any]
    members: Mapping[int | None, ModelFolder] = field(default_factory=dict)
    replicas: Replicas | None = None
    given: GivenOutputs | None = None


def find_subject(
    ref: str, *, workspace: Workspace, settings: BaseConfig | None = None, base: str | None = None
) -> Subject:
    """Find the subject of `ftreg eval`.

    A folder takes precedence, then a checkpoint's name in the workspace, then the name of a
    packaged model, then a hub id.

    Args:
        ref: the user's name for it.
        workspace: has the checkpoints.
        settings: chat template and revision of a model that ftreg did not train.
        base: the folder of the base model of its adapters.

    Raises:
        UsageError: there is no such model, or it is damaged.
    """
    folder = workspace.checkpoint(ref)
    if folder.is_dir() and is_trained(folder):
        return trained_subject(read_replicas(folder))
    refuse_no_model(ref, workspace)
    from ftreg.models.foreign import find_foreign

    # "./" distinguishes a folder from the packaged model of the same name.
    name = os.path.join(os.curdir, folder) if folder.is_dir() and ref in PACKAGED else str(folder)
    own = (settings or BaseConfig()).model_copy(update={"model": name})
    try:
        model = find_foreign(own, given_base=base)
    except UsageError as error:
        raise UsageError(str(error).removeprefix("base.model: ")) from error
    # The hub's cache uses this naming scheme.
    called = folder.resolve().name if folder.is_dir() else ref.replace("/", "--")
    return foreign_subject(model, name=called)


def refuse_no_model(ref: str, workspace: Workspace) -> None:
    """Refuse a name that is not a model folder, a packaged model or a well-formed hub id.

    Raises:
        UsageError: it is none of these.
    """
    folder = workspace.checkpoint(ref)
    if folder.is_dir():
        if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
            raise UsageError(
                f"{folder}: this folder is neither a checkpoint nor a model: it has no "
                f"{MANIFEST}, config.json or adapter_config.json"
            )
    elif ref not in PACKAGED and "/" not in ref:
        known = [path.name for path in workspace.checkpoints.glob("[!.]*") if path.is_dir()]
        raise UsageError(
            f"{ref}: no such checkpoint folder, no checkpoint of that name in "
            f"{workspace.checkpoints}, and no such packaged model"
            f"{did_you_mean(ref, [*known, *PACKAGED])} (packaged: {', '.join(PACKAGED)}; on the "
            "hub: org/name)"
        )


def is_trained(folder: Path) -> bool:
    """Whether a folder has a checkpoint or a group of replicas trained by ftreg."""
    records = any((folder / name).is_file() for name in (MANIFEST, REPLICAS))
    return records or bool(members_below(folder))  # of a group that is not whole, its reader tells


def trained_subject(replicas: Replicas) -> Subject:
    """Return the subject for a checkpoint or a group of replicas."""
    manifest = replicas.first.manifest
    optimizer = manifest.optimizer
    several = len(replicas.members) > 1
    return Subject(
        name=checkpoint_name(replicas.folder),
        summary={
            "name": checkpoint_name(replicas.folder),
            "identity": replicas.identity,
            "parent": manifest.parent,
            "weights": replicas.weights,
            "base": manifest.base.model,
            "optimizer": optimizer["name"],
            "lr": optimizer["arguments"]["lr"],
            "weight_decay": optimizer["arguments"]["weight_decay"],
            "steps": manifest.training.steps,
            **replicas.seed_facts(),
            **replicas.tracker_facts(),
            "last_loss": replicas.last_loss,
            "recipe": replicas.recipe(),
        },
        members={
            member.manifest.training.seed if several else None: member
            for member in replicas.members
        },
        replicas=replicas,
    )


def foreign_subject(model: ModelFolder, *, name: str) -> Subject:
    """Return the subject for a model that ftreg did not train, identified by its digest."""
    facts: Any = model.manifest
    weights = {"weights": facts.weights.digest}
    base = {"base": facts.base.model} if facts.lora else {}
    return Subject(
        name=name,
        summary=_unknown(name, facts.identity, known=facts.known()) | weights | base,
        members={None: model},
    )


def given_subject(path: Path, name: str) -> Subject:
    """Return the subject for outputs generated elsewhere, identified by their digest.

    Args:
        path: the file; see `read_given_outputs`.
        name: the candidate's name.

    Raises:
        UsageError: the file cannot be read, or the name is not valid for a folder.
    """
    check_name(name, what="candidate")
    given = read_given_outputs(path)
    identity = digest({output.id or output.input or "": output.text for output in given.outputs})
    return Subject(name=name, summary=_unknown(name, identity, known={}), given=given)


def _unknown(name: str, identity: str, *, known: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "identity": identity,
        "optimizer": UNKNOWN,
        "lr": None,
        "last_loss": None,
        "recipe": unknown_recipe(known),
    }


def given_round(given: GivenOutputs, split: Split, rows: Split, *, place: str) -> Round:
    """Return given outputs as if they had been generated: in the order of the rows.

    Args:
        given: the outputs.
        split: the complete split of the dataset version.
        rows: the evaluated rows.
        place: the split's name in messages.

    Raises:
        UsageError: an output has no row, or a row has no output.
    """
    outputs = match_outputs(given, split, rows, name=place)
    known = all(output.finish != UNKNOWN for output in outputs)
    tokens = [output.tokens for output in outputs]
    source = {"file": given.path.name, "form": given.form}
    if given.sha256 is not None:
        source["sha256"] = given.sha256
    record = {
        "engine": ELSEWHERE,
        "decoding": UNKNOWN,
        "max_new_tokens": None,
        "precision": UNKNOWN,
        "batch_size": None,
        "new_tokens": None if None in tokens else sum(filter(None, tokens)),
        "cut_off": sum(output.finish == "length" for output in outputs) if known else None,
        "taken": 0,
        "source": source,
    }
    return Round(outputs, record)
