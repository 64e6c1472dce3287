"""Write docs/licences.md: the licences of all packages that an installation of ftreg installs.

python scripts/write_licences.py            write the page
python scripts/write_licences.py --check    exit with 1 if a licence is not known or permitted, or
                                            (where these are the pinned versions, which the page is
                                            about) if the page lacks a package
"""

import argparse
import re
import sys
import tomllib
from collections.abc import Collection, Mapping
from importlib.metadata import Distribution
from pathlib import Path

from installed import EXTRAS, closure, licence_of
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "licences.md"
PINS = ROOT / "constraints.txt"
MADE = "<!-- Made by scripts/write_licences.py from the metadata of the installed packages. -->"

# Permissive, or weak copyleft per file: dependents may be used and distributed freely.
PERMITTED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "CC0-1.0", "CNRI-Python", "HPND", "ISC", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0",
    "PSF-2.0", "Python-2.0", "Unlicense", "Zlib",
}  # fmt: skip


# Packages that only torch's GPU wheels need; the page mentions them.
OF_A_GPU = ("cuda-", "nvidia-", "triton")


def permitted(expression: str) -> bool:
    """Whether an SPDX expression is permitted: every part of an AND, or one part of an OR."""
    bare = expression.strip()
    while bare.startswith("(") and _closing(bare) == len(bare) - 1:
        bare = bare[1:-1].strip()
    for word, meets in ((" OR ", any), (" AND ", all)):
        parts = _split(bare, word)
        if len(parts) > 1:
            return meets(map(permitted, parts))
    return bare in PERMITTED


def _closing(text: str) -> int:
    depth = 0
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0:
            return place
    return -1


def _split(text: str, word: str) -> list[str]:
    """Split an expression at a word outside all brackets."""
    parts, depth, start = [], 0, 0
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if depth == 0 and text.startswith(word, place):
            parts.append(text[start:place])
            start = place + len(word)
    return [*parts, text[start:]]


def page(needed: Mapping[str, Distribution], extra: Mapping[str, Distribution]) -> str:
    """Return the page as Markdown."""

    def table(packages: Mapping[str, Distribution]) -> str:
        rows = [
            f"| {name} | {licence_of(item) or 'not known'} |" for name, item in packages.items()
        ]
        return "\n".join(["| package | licence |", "| --- | --- |", *rows])

    return f"""{MADE}

# Licences

ftreg is licensed under Apache-2.0 and contains no code of other packages. pip installs the packages
below, each under its own licence as stated in its metadata (versions: `constraints.txt`). A test
rejects a package whose licence is unknown or not one of these:
{", ".join(sorted(PERMITTED))}.

On Linux, torch's wheels for NVIDIA GPUs also install NVIDIA's CUDA libraries, under NVIDIA's terms,
and triton (MIT); the tables do not include these. `ftreg models list` and `ftreg data list` show
the licences of packaged models and datasets.

## What `pip install ftreg` installs

{table(needed)}

## What the extras {", ".join(EXTRAS)} add

{table(extra)}
"""


def _installed(extras: Collection[str]) -> dict[str, Distribution]:
    """Return the packages that these extras install, without ftreg and GPU packages."""
    # Read from pyproject.toml, since the metadata of the installed ftreg may be older.
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = [Requirement(text) for text in project["dependencies"]]
    for extra in extras:
        declared += map(Requirement, project["optional-dependencies"][extra])
    found = closure((item.name, item.extras) for item in declared)
    return {key: item for key, item in found.items() if not key.startswith(OF_A_GPU)}


def _as_pinned(packages: Mapping[str, Distribution]) -> bool:
    """Whether these are the pinned versions, which the page covers; others have other needs."""
    pins = {
        canonicalize_name(name): version
        for name, version in re.findall(r"^([\w.-]+)==(\S+)", PINS.read_text("utf-8"), re.MULTILINE)
    }
    return all(
        Version(item.version).public == Version(pins[key]).public
        for key, item in packages.items()
        if key in pins
    )


def main() -> int:
    """Write the page, or check it; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if wrong")
    check = parser.parse_args().check
    needed, every = _installed(()), _installed(EXTRAS)
    extra = {key: item for key, item in every.items() if key not in needed}
    wrong = [
        f"{name}: its licence, {licence or 'not known'}, is not among those that are permitted"
        for name, item in {**needed, **extra}.items()
        if (licence := licence_of(item)) is None or not permitted(licence)
    ]
    if check and _as_pinned(every):
        listed = set(re.findall(r"^\| (\S+) \| .+ \|$", PAGE.read_text("utf-8"), re.MULTILINE))
        wrong += [
            f"{PAGE.name} lacks {name}; run scripts/write_licences.py"
            for name in sorted({*needed, *extra} - listed)
        ]
    if not check:
        PAGE.write_text(page(needed, extra), encoding="utf-8")
    for line in wrong:
        print(line, file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
