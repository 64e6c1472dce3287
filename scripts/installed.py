"""Packages that an installation of ftreg consists of, from installed metadata."""

import importlib.metadata
import re
from collections.abc import Collection, Iterable
from importlib.metadata import Distribution

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("deploy", "lora", "mlflow", "otel", "tensorboard")
"""The extras for users that `make setup` installs."""

# SPDX expressions for licences that packages state in free text.
_IN_WORDS = {
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache 2.0 license": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "3-clause bsd license": "BSD-3-Clause",
    "bsd": "BSD-3-Clause",
    "bsd license": "BSD-3-Clause",
    "isc license": "ISC",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "the mit license (mit)": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
}


def closure(roots: Iterable[tuple[str, Collection[str]]]) -> dict[str, Distribution]:
    """Return packages and their dependencies on this system, by canonical name.

    Args:
        roots: names, each with the requested extras.

    Raises:
        PackageNotFoundError: one of them is not installed.
    """
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    left = [(name, frozenset(extras)) for name, extras in roots]
    while left:
        name, extras = left.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        distribution = importlib.metadata.distribution(name)
        found[canonicalize_name(name)] = distribution
        for text in distribution.requires or []:
            item = Requirement(text)
            wanted = item.marker is None or any(
                item.marker.evaluate({"extra": extra}) for extra in (*extras, "")
            )
            if wanted:
                left.append((canonicalize_name(item.name), frozenset(item.extras)))
    return dict(sorted(found.items()))


def licence_of(distribution: Distribution) -> str | None:
    """Return a package's licence as an SPDX expression; None if its metadata has none."""
    metadata = distribution.metadata
    said = [metadata.get("License-Expression"), metadata.get("License")]
    classifiers = metadata.get_all("Classifier") or []
    said += [
        item.rpartition(" :: ")[2]
        for item in classifiers
        if item.startswith("License :: ") and not item.endswith("DFSG approved")
    ]
    for text in filter(None, said):
        # Some packages put the full licence text there.
        words = re.sub(r"\s+", " ", text.strip().partition("\n")[0])
        known = _IN_WORDS.get(words.lower())
        if known is not None:
            return known
        try:
            return str(canonicalize_license_expression(words))
        except InvalidLicenseExpression:
            continue
    return None
