"""Attest a verdict with digests of everything that it depends on."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ftreg
from ftreg.data.reference import parse_ref
from ftreg.errors import UsageError
from ftreg.files.finding import found_below
from ftreg.files.store import digest, file_digest
from ftreg.gate import Verdict
from ftreg.records.attestation import GatedSide, VerdictPredicate, write_attestation
from ftreg.records.baseline import Baseline, baseline_path
from ftreg.records.checkpoint import read_checkpoint
from ftreg.records.evaluation.stored import Evaluation, read_evaluation, read_header
from ftreg.records.layout import HEADER, MANIFEST, OUTPUTS, SCORES
from ftreg.records.replicas import members_below
from ftreg.records.workspace import Workspace

if TYPE_CHECKING:
    from securesystemslib.signer import CryptoSigner


@dataclass(frozen=True, slots=True, kw_only=True)
class Attest:
    """The file for the statement, and the key that signs it (None: unsigned)."""

    file: Path
    signer: "CryptoSigner | None" = None


def attest(
    asked: Attest,
    verdict: Verdict,
    *,
    candidate: Evaluation,
    baseline: Baseline,
    anchor: Baseline | None,
    workspace: Workspace,
) -> None:
    """Write the statement of a verdict.

    It names the existing files: those of the candidate's evaluation, of the baseline, of the
    checkpoint and of the dataset version.

    Raises:
        UsageError: the evaluation is outside the workspace, so nobody else could find it, or the
            statement cannot be written.
    """
    sides = [side for side in (baseline, anchor) if side is not None]
    files = {
        *_evaluation_files(candidate.folder),
        *(path for side in sides for path in _files_of_side(side, candidate, workspace)),
        *_checkpoint_files(candidate, workspace),
        *_dataset_files(candidate, workspace),
    }
    write_attestation(
        asked.file,
        subjects={_name(path, workspace): file_digest(path) for path in files},
        predicate=_predicate(verdict, candidate, baseline, anchor),
        signer=asked.signer,
    )


def _predicate(
    verdict: Verdict, candidate: Evaluation, baseline: Baseline, anchor: Baseline | None
) -> VerdictPredicate[dict[str, Any]]:
    checkpoint, dataset = candidate.header["checkpoint"], candidate.header["dataset"]
    return {
        "ftreg": ftreg.__version__,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "candidate": {"id": candidate.id, "scores": digest(candidate.scores)},
        "baseline": _side(baseline),
        "anchor": None if anchor is None else _side(anchor),
        "checkpoint": {
            key: checkpoint[key] for key in ("name", "identity", "weights") if key in checkpoint
        },
        "dataset": {key: dataset[key] for key in ("version", "split", "digest")},
        "scorers": dict(candidate.header["scorers"]),
        "verdict": verdict.to_dict(),
    }


def _side(side: Baseline) -> GatedSide:
    return {"id": str(side.header["id"]), "scores": digest(side.scores)}


def _evaluation_files(folder: Path) -> list[Path]:
    """Return its header and the files named there; older headers name none."""
    named = read_header(folder).get("files", (OUTPUTS, SCORES))
    return [folder / name for name in (HEADER, *named)]


def _files_of_side(side: Baseline, candidate: Evaluation, workspace: Workspace) -> list[Path]:
    """Return its evaluation, which never changes, if it exists here; else the baseline's file."""
    folder = side.folder or workspace.evaluations / str(side.header["id"])
    if (folder / HEADER).is_file() and read_evaluation(folder).scores == side.scores:
        return _evaluation_files(folder)
    return [side.file or baseline_path(workspace.baselines, candidate.header["dataset"]["name"])]


def _checkpoint_files(candidate: Evaluation, workspace: Workspace) -> Iterator[Path]:
    """Yield the files that determine the outputs, of each replica that is unchanged."""
    summary = candidate.header["checkpoint"]
    meant = {summary["identity"], *summary.get("replicas", ())}
    folder = workspace.checkpoints / summary["name"]
    for member in (folder, *members_below(folder)):
        if not (member / MANIFEST).is_file():
            continue
        manifest = read_checkpoint(member).manifest
        if manifest.identity in meant:
            names = {MANIFEST, *manifest.weights.files, *manifest.files}
            yield from (path for name in names if (path := member / name).is_file())


def _dataset_files(candidate: Evaluation, workspace: Workspace) -> Iterator[Path]:
    dataset = candidate.header["dataset"]
    root = Path(dataset.get("root", ""))
    if "root" not in dataset or root.is_absolute():
        return
    folder = parse_ref(dataset["version"]).folder(workspace.root / root)
    for pattern in ("dataset.yaml", "*.jsonl"):
        yield from (path for path in found_below(folder, pattern) if path.is_file())


def _name(path: Path, workspace: Workspace) -> str:
    try:
        return path.resolve().relative_to(workspace.root.resolve()).as_posix()
    except ValueError as error:
        raise UsageError(
            f"{path} is outside the workspace {workspace.root.resolve()}; files named in a "
            "statement must be inside, so that others find them in theirs"
        ) from error
