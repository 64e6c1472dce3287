"""Build the files of a release: wheel, sdist, SBOM and their SHA-256 (`make dist`).

Builds are reproducible: the same commit gives the same wheel and sdist, byte for byte. Timestamps
are the commit's (SOURCE_DATE_EPOCH), and the build backend is pinned in constraints.txt. The SBOM
lists the packages installed with ftreg in this environment.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from installed import EXTRAS, closure, licence_of
from packaging.utils import canonicalize_name

from ftreg import __version__
from ftreg.files.store import file_digest

ROOT = Path(__file__).parent.parent


def commit_time(root: Path) -> str:
    """Return SOURCE_DATE_EPOCH if set, else the time of the last commit, in seconds since 1970."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given:
        return given
    command = ["git", "log", "-1", "--format=%ct"]
    return subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=True
    ).stdout.strip()


def export(root: Path, folder: Path) -> Path:
    """Export the last commit to a folder, without uncommitted files; returns the content's root."""
    packed = folder / "commit.tar"
    command = ["git", "archive", "--format=tar", f"--output={packed}", "HEAD"]
    subprocess.run(command, cwd=root, check=True)
    content = folder / "ftreg"
    with tarfile.open(packed) as archive:
        archive.extractall(content, filter="data")
    return content


def build(root: Path, output: Path, *, epoch: str) -> None:
    """Build sdist and wheel with the installed build backend."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "build",
        "--no-isolation",
        "--outdir",
        str(output),
        str(root),
    ]
    # The backend keeps file modes; a fixed umask makes those of new files reproducible.
    subprocess.run(command, check=True, env=os.environ | {"SOURCE_DATE_EPOCH": epoch}, umask=0o022)


def bill_of_materials(*, epoch: str) -> str:
    """Return a CycloneDX SBOM (JSON) of ftreg and its dependencies, without development tools.

    Raises:
        ValueError: the SBOM does not match CycloneDX's schema.
    """
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible"]
    command += ["--pyproject", str(ROOT / "pyproject.toml"), "--output-format", "JSON"]
    environment = os.environ | {"SOURCE_DATE_EPOCH": epoch}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    bill: dict[str, Any] = json.loads(done.stdout)
    needed = closure([("ftreg", EXTRAS)])
    kept = [item for item in bill["components"] if canonicalize_name(item["name"]) in needed]
    for item in kept:  # adds licences that metadata state in free text
        licence = licence_of(needed[canonicalize_name(item["name"])])
        if licence is not None:
            item.setdefault("licenses", [{"expression": licence, "acknowledgement": "declared"}])
    known = {item["bom-ref"] for item in kept} | {bill["metadata"]["component"]["bom-ref"]}
    bill["metadata"]["component"]["version"] = __version__
    bill["components"] = kept
    bill["dependencies"] = [
        {**item, "dependsOn": [ref for ref in item.get("dependsOn", []) if ref in known]}
        for item in bill["dependencies"]
        if item["ref"] in known
    ]
    text = json.dumps(bill, indent=2, sort_keys=True) + "\n"
    fault = JsonStrictValidator(SchemaVersion.from_version(bill["specVersion"])).validate_str(text)
    if fault is not None:
        raise ValueError(f"the SBOM does not fit the schema of CycloneDX: {fault}")
    return text


def main() -> None:
    """Build everything into an empty or new folder."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="an empty folder")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository; default: this one")
    given = parser.parse_args()
    output: Path = given.output
    if output.is_dir() and any(output.iterdir()):
        sys.exit(f"{output} is not empty; move away what is in it")
    output.mkdir(parents=True, exist_ok=True)
    epoch = commit_time(given.root)
    with tempfile.TemporaryDirectory() as scratch:
        build(export(given.root, Path(scratch)), output, epoch=epoch)
    sbom = output / f"ftreg-{__version__}.cdx.json"
    sbom.write_text(bill_of_materials(epoch=epoch), encoding="utf-8")
    files = sorted(path for path in output.iterdir() if path.name != "SHA256SUMS")
    sums = "".join(f"{file_digest(path)}  {path.name}\n" for path in files)
    (output / "SHA256SUMS").write_text(sums, encoding="utf-8")
    print(sums, end="")


if __name__ == "__main__":
    main()
