"""A table of names that are imported only on use."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from ftreg.config import custom_code
from ftreg.errors import UsageError, did_you_mean


def import_path(target: str) -> Any:
    """Import `"package.module:attribute"`.

    Raises:
        UsageError: the path has no colon, or the module or attribute does not exist.
    """
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute):
        raise UsageError(f"{target!r} is not an import path; write it as package.module:name")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's module may do anything when it is imported
        raise UsageError(f"cannot import {target!r}: {type(error).__name__}: {error}") from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise UsageError(f"module {module_name} has no {attribute!r} (from {target!r})") from error


@contextlib.contextmanager
def working_folder_on_path() -> Iterator[None]:
    """Allow imports from the working folder within the block, after all other paths.

    Used only for the user's own code: a library that tries to import an optional module must not
    find an unrelated file there.
    """
    folder = os.getcwd()
    if folder in sys.path:
        yield
        return
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


class Registry:
    """Names of one kind of object, each mapped to an import path.

    Listing the names imports nothing; `load` imports the requested one.
    """

    def __init__(self, kind: str, targets: Mapping[str, str]) -> None:
        self.kind = kind
        self._targets = dict(targets)

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def load(self, name: str) -> Any:
        """Import the object called `name`; a name with a colon is a user's import path.

        Raises:
            UsageError: the name is unknown (the message names the nearest), the import fails, or
                custom code is forbidden.
        """
        if ":" in name:
            custom_code.refuse(name, place=self.kind)
            with working_folder_on_path():
                return import_path(name)
        if name not in self._targets:
            raise UsageError(
                f"{name!r} is not a known {self.kind}{did_you_mean(name, self._targets)} "
                f"(known: {', '.join(sorted(self._targets))}; or an import path "
                "package.module:name)"
            )
        return import_path(self._targets[name])
