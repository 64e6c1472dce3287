"""Fetch one file of a package registry, pinned by its SHA-256, without installing it."""

import subprocess
import sys
import tempfile
from pathlib import Path

from filelock import FileLock

from ftreg.errors import UsageError
from ftreg.files.cache.folder import cache_folder
from ftreg.files.store import file_digest


def fetch_wheel(requirement: str, sha256: str) -> Path:
    """Return the path of a wheel in the user's cache, downloading it with pip if it is missing.

    pip does the download, so the user's index, proxy and certificates apply. `--no-deps` is used
    because the wheel is neither installed nor run, and `--require-hashes` refuses other bytes.

    Args:
        requirement: an exact requirement, `"networkx==3.6.1"`.
        sha256: hex digest of the wheel.

    Raises:
        UsageError: pip cannot fetch the wheel, or its bytes have another digest.
    """
    folder = cache_folder("wheels", sha256)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        for wheel in folder.glob("*.whl"):
            if file_digest(wheel) == sha256:
                return wheel
            wheel.unlink()  # a damaged cached copy is downloaded again, never used
        _download(requirement, sha256, folder)
        wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1 or file_digest(wheels[0]) != sha256:
        raise UsageError(f"{requirement}: the downloaded wheel does not have sha256 {sha256}")
    return wheels[0]


def _download(requirement: str, sha256: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        pinned = Path(scratch, "requirements.txt")
        pinned.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
        command = [
            sys.executable,
            "-P",  # a pip.py in the working folder is not pip
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
        ]
        command += ["--no-deps", "--only-binary=:all:", "--require-hashes"]
        command += ["--requirement", str(pinned), "--dest", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        detail = lines[-1] if lines else done.stderr.strip()[-300:]
        raise UsageError(
            f"cannot fetch {requirement}: {detail}\n"
            "Check the network and pip's index settings (`pip config list`)."
        )
