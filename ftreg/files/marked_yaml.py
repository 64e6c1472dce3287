"""Read YAML together with the line of each key, so that errors can name it."""

import bisect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ftreg.errors import UsageError, cut, shown
from ftreg.files.reading import MIB, read_text

KeyPath = tuple[str | int, ...]
Marks = dict[KeyPath, str]
"""Key path to place: `"configs/lion.yaml:12"`, or `"-s optimizer.lr"`."""


LARGEST = MIB
"""Maximum bytes of a YAML file."""
_MOST_VALUES = 50_000
"""Maximum values of a YAML file, counting repetitions by aliases."""
_TOO_MANY = f"more than {_MOST_VALUES:,} values, counting those repeated by aliases (*name)"
_MOST_DIGITS = 400
_PLAIN_KEY = re.compile(r"[\w. -]{1,100}")
_LONGEST_PROBLEM = 300
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Document:
    """The data of one YAML file, and the place of each key."""

    data: dict[str, Any]
    marks: Marks


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars: `1e-5` is a number (1.1 makes it text), `no` is text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._ends = [found.start() for found in re.finditer("\n", text)]
        self._composed = 0

    def line_at(self, index: int) -> int:
        """Return the line of a character, from 1, as editors count; PyYAML also counts U+2028."""
        return bisect.bisect_left(self._ends, index) + 1

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Count the composed nodes, so that a file of a million commas is refused early."""
        self._composed += 1
        if self._composed > _MOST_VALUES:
            raise yaml.MarkedYAMLError(problem=_TOO_MANY, problem_mark=self.get_mark())
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Name the line of a value that does not match its tag."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(
                problem=f"{shown(node.value)} is not a valid {kind}", problem_mark=node.start_mark
            ) from error


# PyYAML keeps its rules per first character; ours replace 1.1's for booleans, ints and floats.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag == "tag:yaml.org,2002:null"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_RULES = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
)
for _kind, _rule, _first in _RULES:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_rule})$"), list(_first)
    )


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(
        loader.construct_scalar(node).lower().replace(".inf", "inf").replace(".nan", "nan")
    )


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    digits = loader.construct_scalar(node)
    if len(digits) > _MOST_DIGITS:
        raise yaml.MarkedYAMLError(
            problem=f"a whole number of more than {_MOST_DIGITS} digits",
            problem_mark=node.start_mark,
        )
    return int(digits)  # 010 is ten, not eight


# Only JSON's tags: no setting is a date, bytes or a set.
_Loader.yaml_constructors = {
    tag: made
    for tag, made in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in ("null", "bool", "str", "seq", "map")
}
_Loader.add_constructor("tag:yaml.org,2002:float", _float)
_Loader.add_constructor("tag:yaml.org,2002:int", _int)


class _Walk:
    """Walks a document before it is constructed: records lines, and refuses dangerous content.

    An alias is followed at each occurrence, as any reader of the data will.
    """

    def __init__(self, loader: _Loader, file: Path) -> None:
        self._loader, self._file = loader, file
        self._seen = 0
        self._within: set[int] = set()
        self.marks: Marks = {}

    def place(self, node: yaml.Node) -> str:
        return f"{self._file}:{self._loader.line_at(node.start_mark.index)}"

    def walk(self, node: yaml.Node, path: KeyPath = ()) -> None:
        """Record the line of every key below `node`.

        Raises:
            UsageError: a key is duplicate (YAML readers silently keep the last) or not a string, a
                string is invalid, or aliases expand too far.
        """
        self._seen += 1
        if self._seen > _MOST_VALUES:
            raise UsageError(f"{self.place(node)}: not valid YAML: {_TOO_MANY}")
        if isinstance(node, yaml.ScalarNode):
            self._text(node)
            return
        if id(node) in self._within:
            raise UsageError(f"{self.place(node)}: not valid YAML: it contains itself, as *alias")
        self._within.add(id(node))
        if isinstance(node, yaml.MappingNode):
            self._mapping(node, path)
        else:
            for index, item in enumerate(node.value):
                self.marks[(*path, index)] = self.place(item)
                self.walk(item, (*path, index))
        self._within.remove(id(node))

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> None:
        seen: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise UsageError(f"{self.place(key)}: a key must be a string")
            if key.value == "<<":
                raise UsageError(
                    f"{self.place(key)}: YAML 1.2 has no merge keys (<<); write the settings "
                    "out, or share them between files with extends"
                )
            self._text(key)
            key.tag = "tag:yaml.org,2002:str"  # 1: and true: are the texts that they are written as
            name, line = key.value, self._loader.line_at(key.start_mark.index)
            if name in seen:
                raise UsageError(
                    f"{self._file}:{line}: duplicate key {named_key(name)} "
                    f"(first on line {seen[name]})"
                )
            seen[name] = line
            self.marks[(*path, name)] = f"{self._file}:{line}"
            self.walk(value, (*path, name))

    def _text(self, node: yaml.Node) -> None:
        """Refuse characters that YAML can escape but a file or its name cannot contain."""
        if _NO_TEXT.search(node.value):
            raise UsageError(
                f"{self.place(node)}: a text cannot hold the character NUL, nor half of a UTF-16 "
                "pair"
            )


def named_key(name: str) -> str:
    """Return a key for use in messages; unusual keys are not shown.

    A settings file may be a link to another file, such as /etc/shadow, whose lines become keys.
    """
    return name if _PLAIN_KEY.fullmatch(name) else "(a key that is not shown)"


def parse(text: str, file: Path) -> Document:
    """Parse YAML text whose top level is a mapping.

    Raises:
        UsageError: not YAML, not a mapping, or a duplicate key; names the line.
    """
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        walk = _Walk(loader, file)
        if node is not None:
            walk.walk(node)
        data = loader.construct_document(node) if node is not None else {}
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        code = ord(error.character) if isinstance(error.character, str) else error.character
        raise UsageError(
            f"{file}:{line}: not valid YAML: the character U+{code:04X} cannot stand in it"
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = loader.line_at(mark.index) if loader is not None and mark is not None else 1
        problem = cut((error.problem or error.context or "").partition("\n")[0], _LONGEST_PROBLEM)
        raise UsageError(f"{file}:{line}: not valid YAML: {problem}") from error
    except RecursionError as error:
        line = 1 if loader is None else loader.line_at(loader.index)
        raise UsageError(f"{file}:{line}: not valid YAML: nested too deeply") from error
    except yaml.YAMLError as error:
        problem = cut(str(error).partition("\n")[0], _LONGEST_PROBLEM)
        raise UsageError(f"{file}: not valid YAML: {problem}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{file}:1: expected keys and values, found a {type(data).__name__}")
    return Document(data, walk.marks)


def read(file: Path, *, kind: str = "configuration") -> Document:
    """Parse a YAML file of at most 1 MiB; `kind` describes it in messages.

    Raises:
        UsageError: missing, unreadable, too large or not UTF-8; or as `parse`.
    """
    return parse(read_text(file, most=LARGEST, kind=kind), file)


def dump(data: Mapping[str, Any]) -> str:
    """Write YAML that `parse` reads back to equal data, in the given key order."""
    text: str = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None
    )
    return text


class _Dumper(yaml.SafeDumper):
    """Quotes text by the rules of `_Loader`, so that the text "1e-5" does not become a number."""


_Dumper.yaml_implicit_resolvers = {
    first: [*_Loader.yaml_implicit_resolvers.get(first, []), *rules]
    for first, rules in yaml.SafeDumper.yaml_implicit_resolvers.items()
}


def _represent_float(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:float", repr(value))


_Dumper.add_representer(float, _represent_float)
