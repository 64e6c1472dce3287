"""Write a checkpoint in a form for serving, with a manifest beside it."""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ftreg
from ftreg.config import custom_code
from ftreg.config.code_named import TRUST, place_in_manifest
from ftreg.errors import UsageError, did_you_mean, shown
from ftreg.files.store import check_writable, file_digest, staged_file, staged_folder, write_record
from ftreg.records.artefact import ArtefactRecord, manifest_of
from ftreg.records.checkpoint import Checkpoint, read_checkpoint
from ftreg.records.layout import MANIFEST
from ftreg.records.printed import Printed, json_object, printed

if TYPE_CHECKING:
    from ftreg.jobs.generate import EvalEvents

PRECISIONS = ("f32", "f16", "bf16", "q8_0", "q4_0")
FORMS = ("merged", "gguf", *(f"gguf:{precision}" for precision in PRECISIONS))
_LIBRARIES = ("gguf", "safetensors", "torch", "transformers")


@printed
class Exported(Printed):
    """What `ftreg export --json` prints."""

    artefact: Path
    """Path of what was written: a file, or a folder of merged weights."""
    manifest: Path
    """Path of the record of it."""
    record: ArtefactRecord
    """What stands there."""


def export(
    checkpoint_folder: Path,
    *,
    to: str,
    output: Path,
    base: str | None = None,
    events: "EvalEvents | None" = None,
) -> Exported:
    """Write a checkpoint as a GGUF file or a folder of merged weights.

    Args:
        checkpoint_folder: a checkpoint with its manifest.
        to: one of `FORMS`; `gguf` is `gguf:f16`.
        output: the file or folder, which must not exist.
        base: a folder where the base of adapters may be.
        events: receives progress.

    Raises:
        UsageError: the form, the checkpoint or the place is wrong, or the architecture is none
            whose export is known to be right; nothing was written.
    """
    if events is None:
        from ftreg.jobs.generate import SilentEval

        events = SilentEval()
    if to not in FORMS:
        raise UsageError(
            f"--to {shown(to)}: no such form{did_you_mean(to, FORMS)} (known: {', '.join(FORMS)}). "
            "Other quantizations, such as Q4_K_M, llama.cpp's llama-quantize makes of gguf:f16"
        )
    check_writable(output)
    if manifest_of(output).exists():
        raise UsageError(f"{manifest_of(output)} already exists; move it away")
    checkpoint = open_checkpoint(checkpoint_folder, base=base, events=events)
    if to == "merged":
        record = _export_merged(checkpoint, output, events)
    else:
        record = _export_gguf(checkpoint, to.partition(":")[2] or "f16", output, events)
    return Exported(artefact=output, manifest=manifest_of(output), record=record)


def open_checkpoint(folder: Path, *, base: str | None, events: "EvalEvents") -> Checkpoint:
    """Read a checkpoint and verify it, before any code that comes with its model is run.

    Args:
        folder: with its manifest.
        base: a folder where the base of adapters may be.
        events: receives progress.

    Raises:
        UsageError: it is not a checkpoint, was changed, or the code of its model is rejected.
    """
    found = read_checkpoint(folder)
    checkpoint = Checkpoint(found.folder, found.manifest, base)
    if checkpoint.manifest.base.trust_remote_code:
        place = place_in_manifest(checkpoint.folder / MANIFEST, TRUST)
        custom_code.refuse(
            f"what comes with the model {checkpoint.manifest.base.model}", place=place
        )
    events.phase("checking the checkpoint")
    checkpoint.verify()
    return checkpoint


def _export_gguf(
    checkpoint: Checkpoint, precision: str, output: Path, events: "EvalEvents"
) -> ArtefactRecord:
    from ftreg.deploy.gguf_writing import plan_gguf, write_gguf

    events.phase("reading the tokenizer")
    plan = plan_gguf(checkpoint)
    for note in plan.blueprint.notes():
        events.notice(note)
    with staged_file(output) as staging:
        write_gguf(plan, staging, precision=precision, advance=_teller(events))
        record = _record(
            checkpoint,
            base=plan.weights.base,
            form="gguf",
            precision=precision,
            files={output.name: file_digest(staging)},
            bytes=staging.stat().st_size,
            context=plan.blueprint.context,
            ends=plan.vocabulary.ends,
        )
    write_record(manifest_of(output), json_object(record))
    return record


def _export_merged(checkpoint: Checkpoint, output: Path, events: "EvalEvents") -> ArtefactRecord:
    from ftreg.deploy.merged_folder import Settings, write_merged
    from ftreg.deploy.merging import Merged

    weights = Merged(checkpoint)
    settings = Settings(weights)
    with staged_folder(output) as folder:
        precision = write_merged(weights, folder, settings=settings, advance=_teller(events))
        written = sorted(folder.iterdir())
        record = _record(
            checkpoint,
            base=weights.base,
            form="merged",
            precision=precision,
            files={path.name: file_digest(path) for path in written},
            bytes=sum(path.stat().st_size for path in written),
            context=settings.context,
            ends=settings.ends,
        )
        write_record(manifest_of(folder), json_object(record))
    return record


def _teller(events: "EvalEvents") -> Callable[[int, int], None]:
    return lambda done, total: events.progress("writing tensors", done, total)


def _record(checkpoint: Checkpoint, **found: Any) -> ArtefactRecord:
    manifest = checkpoint.manifest
    return ArtefactRecord(
        ftreg=ftreg.__version__,
        checkpoint=manifest.identity,
        weights=manifest.weights.digest,
        versions={name: importlib.metadata.version(name) for name in _LIBRARIES},
        **found,
    )
