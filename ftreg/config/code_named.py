"""Find the code that a configuration names, and where it names it."""

from collections.abc import Collection, Iterator
from pathlib import Path

from ftreg.config import custom_code
from ftreg.config.evaluating import AnyEvaluationConfig
from ftreg.config.optimizer import CustomConfig
from ftreg.config.sections import RunConfig
from ftreg.errors import UsageError
from ftreg.files import marked_yaml
from ftreg.files.marked_yaml import KeyPath, Marks

SECTIONS = ("base", "optimizer", "eval")
TRUST: KeyPath = ("base", "trust_remote_code")


def code_named(
    config: AnyEvaluationConfig, sections: Collection[str] = SECTIONS
) -> Iterator[tuple[KeyPath, str]]:
    """Yield the key and the name of each piece of code that a configuration runs.

    Args:
        config: the configuration.
        sections: which of its sections count; a command that only evaluates builds no optimizer.
    """
    if "base" in sections and config.base.trust_remote_code:
        yield TRUST, f"what comes with the model {config.base.model}"
    optimizer = config.optimizer if isinstance(config, RunConfig) else None
    if "optimizer" in sections and isinstance(optimizer, CustomConfig):
        yield ("optimizer", "path"), optimizer.path
    if "eval" in sections:
        for index, scorer in enumerate(config.eval.scorers):
            for key, name in (("name", scorer.name), ("backend", scorer.backend)):
                if name is not None and custom_code.names_code(name):
                    yield ("eval", "scorers", index, key), name


def refuse_code_named(
    config: AnyEvaluationConfig,
    *,
    marks: Marks,
    where: Path,
    recorded: bool = False,
    sections: Collection[str] = SECTIONS,
) -> None:
    """Raise if custom code is forbidden and the configuration names some.

    Args:
        config: the configuration.
        marks: the known places of its keys.
        where: its file.
        recorded: the file is a manifest with the configuration under the key `config`.
        sections: which of its sections count.

    Raises:
        UsageError: one line for each piece of code, with its file, line and key.
    """
    if not custom_code.forbidden():
        return
    found = []
    for path, name in code_named(config, sections):
        try:
            custom_code.refuse(name, place=_place(path, marks, where, recorded=recorded))
        except UsageError as error:
            found.append(str(error))
    if found:
        raise UsageError("\n".join(found))


def place_in_manifest(manifest: Path, path: KeyPath) -> str:
    """Return `"ftreg.json:12: base.trust_remote_code"`, without the line if it is unknown."""
    key = ".".join(map(str, path))
    try:
        marks = marked_yaml.read(manifest).marks  # JSON is YAML
    except UsageError:
        return f"{manifest}: {key}"
    return f"{marks.get(path, manifest)}: {key}"


def _place(path: KeyPath, marks: Marks, where: Path, *, recorded: bool) -> str:
    key = ".".join(map(str, path))
    for depth in range(len(path), 0, -1):
        if path[:depth] in marks:
            return f"{marks[path[:depth]]}: {key}"
    return place_in_manifest(where, ("config", *path)) if recorded else f"{where}: {key}"
