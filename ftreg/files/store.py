"""Files on disk: written atomically, and read with their schema checked.

A file is written to a temporary neighbour, flushed, fsynced and renamed; a folder is filled under a
hidden name next to its destination and renamed when complete. Leftovers of a crash start with
`.tmp-` and are never read. A record can carry the digest of its contents, and is then refused if a
disk fault or a person has changed it.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ftreg.errors import NewerRecordError, UsageError
from ftreg.files import reading
from ftreg.files.durable import fsync_folder, make_folder
from ftreg.files.names import check_name

TEMPORARY_PREFIX = ".tmp-"
_SEAL = "digest"


def canonical_json(value: Any) -> str:
    """Serialise with sorted keys, no spaces and UTF-8 text, so that equal values give equal bytes.

    Raises:
        ValueError: the value contains NaN or infinity, which JSON does not support.
    """
    return json.dumps(
        value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    )


def digest(value: Any) -> str:
    """Return the hex SHA-256 of a JSON-ready value's canonical form."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes.

    Raises:
        UsageError: it is a pipe or a device, which may be endless.
        OSError: it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise UsageError(f"{path}: this is not a regular file; put the file itself there")
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def portable_path(path: str) -> str:
    """Return an absolute path relative to the working folder; other paths are unchanged."""
    return os.path.relpath(path) if os.path.isabs(path) else path


def _temporary_neighbour(path: Path) -> Path:
    return path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{uuid.uuid4().hex[:8]}")


def sweep_temporaries(path: Path) -> None:
    """Delete half-written leftovers of `path`; call it only while no other process writes it."""
    name = re.compile(re.escape(f"{TEMPORARY_PREFIX}{path.name}-") + "[0-9a-f]{8}")
    if not path.parent.is_dir():
        return
    for left in path.parent.iterdir():
        if name.fullmatch(left.name):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def write_lines(path: Path, lines: Iterable[str], *, create_folder: bool = True) -> None:
    """Write text lines (newlines added) to `path` atomically, as `write_bytes` does."""
    write_bytes(path, (f"{line}\n".encode() for line in lines), create_folder=create_folder)


def write_bytes(path: Path, parts: Iterable[bytes], *, create_folder: bool = True) -> None:
    """Write bytes, one part after another, to `path` atomically.

    Args:
        path: the file.
        parts: its content.
        create_folder: false refuses to write where the folder is gone, as that of an evaluation
            that somebody removes while it is gated.

    Raises:
        UsageError: the place cannot be written, or the disk is full; `path` is as it was.
    """
    temporary = _temporary_neighbour(path)
    try:
        if create_folder:
            make_folder(path.parent)
        with temporary.open("wb") as stream:
            stream.writelines(parts)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    _settle(path)


def _settle(path: Path) -> None:
    """Make a file just renamed to `path` survive a power failure."""
    try:
        fsync_folder(path.parent)
    except OSError as error:
        raise UsageError(
            f"{path} is written, but could not be flushed to disk: "
            f"{error.strerror or error}; check the disk, and run this again"
        ) from error


def write_text(path: Path, text: str, *, create_folder: bool = True) -> None:
    """Write `text` atomically; it ends with exactly one newline."""
    write_lines(path, [text.removesuffix("\n")], create_folder=create_folder)


def write_json(path: Path, value: Any, *, create_folder: bool = True) -> None:
    """Write a JSON document atomically, indented for reading and for diffs in git."""
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    write_text(path, text, create_folder=create_folder)


def write_record(path: Path, value: Mapping[str, Any], *, create_folder: bool = True) -> None:
    """Write a JSON object atomically, sealed with the digest of its contents."""
    content = json.loads(canonical_json(value))
    write_json(path, {**value, _SEAL: digest(content)}, create_folder=create_folder)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one canonical JSON object per line, atomically."""
    write_lines(path, (canonical_json(row) for row in rows))


@contextlib.contextmanager
def damaged(path: Path | str, *, kind: str) -> Iterator[None]:
    """Convert exceptions from a malformed record in the block into a message that names it.

    Raises:
        UsageError: a key is missing, or a value has the wrong type or form.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise UsageError(f"{path}: damaged {kind}: {what.splitlines()[0]}") from error


def read_json(path: Path, *, kind: str, schema: int, sealed: bool = False) -> dict[str, Any]:
    """Read a JSON object that carries `schema_version`, without its seal.

    Args:
        path: the file.
        kind: what the file is, for messages ("manifest").
        schema: the newest schema version that this ftreg reads.
        sealed: refuse a record without a seal; older ones have none.

    Raises:
        UsageError: the file is missing, broken, or has changed since it was written.
        NewerRecordError: it was written by a newer ftreg.
    """
    text = reading.read_text(path, most=reading.LARGEST_RECORD, kind=kind)
    value = reading.parse_json(text, place=str(path), first_line=1)
    version = value.get("schema_version") if isinstance(value, dict) else None
    if not isinstance(version, int) or version < 1:
        raise UsageError(f"{path}: not a {kind}: it has no schema_version")
    if version > schema:
        writer = _writer(value)
        wanted = f"ftreg {writer}, which wrote it, or a newer one" if writer else "a newer ftreg"
        raise NewerRecordError(
            f"{path}: this {kind} has schema version {version}, newer than the {schema} that this "
            f"ftreg reads; install {wanted}"
        )
    content = dict(value)
    seal = content.pop(_SEAL, None)
    changed = (sealed or seal is not None) and seal != digest(content)
    if changed or (seal is None and _has_lost_its_seal(content)):
        raise UsageError(
            f"{path}: this {kind} has changed since it was written (its digest differs); restore "
            "it from a copy, or create it again"
        )
    return content


def _has_lost_its_seal(content: dict[str, Any]) -> bool:
    """Whether a key holds the digest of all others: a seal with a damaged name."""
    names = [name for name, value in content.items() if isinstance(value, str) and len(value) == 64]
    return any(
        content[name] == digest({key: content[key] for key in content if key != name})
        for name in names
    )


def _writer(value: Any) -> str | None:
    """The version of ftreg that wrote a record: at the top, or among the library versions."""
    in_manifest = ("environment", "versions", "ftreg")
    for keys in (("ftreg",), in_manifest, ("facts", *in_manifest)):
        found = value
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, str):
            return found
    return None


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for each line of a JSONL file, one at a time.

    Raises:
        UsageError: the file is missing, or a line is too long, not UTF-8, or not a JSON object;
            names the line.
    """
    for number, text in reading.lines_of(path):
        if text.strip():
            place = f"{path}:{number}"
            value = reading.parse_json(text, place=place)
            if not isinstance(value, dict):
                raise UsageError(f"{place}: expected a JSON object, found {type(value).__name__}")
            yield number, value


def check_writable(path: Path) -> None:
    """Check that `path` is free and can be created, before hours are spent on its contents.

    Raises:
        UsageError: it exists, its folder cannot be created or written, or its name is not valid on
            every system.
    """
    if path.name:  # `.` has none
        check_name(path.name, what="output")
    if path.exists():
        raise UsageError(f"{path} already exists; choose another name, or move it away")
    probe = _temporary_neighbour(path)
    try:
        probe.mkdir(parents=True)
        probe.rmdir()
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def staged_file(final: Path) -> Iterator[Path]:
    """Yield the path of a hidden file that becomes `final` if the block succeeds.

    Raises:
        UsageError: `final` exists (nothing is ever overwritten), it cannot be written, or not every
            system takes its name.
    """
    check_name(final.name, what="output")
    if final.exists():
        raise UsageError(f"{final} already exists; choose another name, or move it away")
    staging = _temporary_neighbour(final)
    try:
        make_folder(final.parent)
        yield staging
        with staging.open("rb") as stream:
            os.fsync(stream.fileno())
        os.rename(staging, final)
    except OSError as error:
        raise UsageError(f"cannot write {final}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            staging.unlink(missing_ok=True)
    _settle(final)


@contextlib.contextmanager
def staged_folder(final: Path) -> Iterator[Path]:
    """Yield a hidden folder that becomes `final` if the block succeeds, and is removed otherwise.

    Raises:
        UsageError: `final` exists (nothing is ever overwritten), it cannot be written, or not every
            system takes its name.
    """
    if final.name:  # `.` has none
        check_name(final.name, what="output")
    if final.exists():
        raise UsageError(f"{final} already exists; choose another name, or move it away")
    staging = _temporary_neighbour(final)
    try:
        make_folder(staging)
        yield staging
        # Files get the permissions of the folder: safetensors creates them with 0600.
        readable = staging.stat().st_mode & 0o666
        for path in sorted(staging.rglob("*"), reverse=True):
            if path.is_file():
                path.chmod(readable)
                with path.open("rb") as stream:
                    os.fsync(stream.fileno())
            elif path.is_dir():
                fsync_folder(path)
        fsync_folder(staging)
        os.rename(staging, final)
    except OSError as error:
        if final.exists():
            raise UsageError(f"{final} already exists; another run has just written it") from error
        raise UsageError(f"cannot write {final}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    _settle(final)
