"""The documented functions of a wheel, cut from its source text.

The wheel is read as an archive: nothing in it is installed, imported or run. Source is cut by
position and never generated from the syntax tree, since the output of `ast.unparse` differs between
Python versions.
"""

import ast
import re
import textwrap
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ftreg.errors import UsageError

Function = ast.FunctionDef | ast.AsyncFunctionDef
_NOT_READ = re.compile(r"_(?!_init__$)|(?:tests?|testing|conftest)$|test_")


@dataclass(frozen=True, slots=True)
class Documented:
    """A public function or method with a docstring; `lines` are those of the complete file."""

    module: str
    qualname: str
    method: bool
    node: Function
    lines: list[str]

    @property
    def id(self) -> str:
        """The dotted name of the function."""
        return f"{self.module}.{self.qualname}"

    @property
    def docstring(self) -> str:
        """The docstring as it is in the source, including indentation."""
        return ast.get_docstring(self.node, clean=False) or ""


def documented_functions(
    wheel: Path, package: str, skip: Sequence[str] = ()
) -> Iterator[Documented]:
    """Yield the documented public functions and methods of a wheel, with files sorted by name.

    Tests, private modules, classes and functions, nested functions, and stubs with an empty body
    are left out.

    Args:
        wheel: the wheel's file.
        package: the folder in it to read.
        skip: modules to leave out, including their submodules.

    Raises:
        UsageError: a file cannot be parsed as Python. If it were skipped, the rows would depend on
            the version of Python that builds them.
    """
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            module = _module_name(name, package)
            if module is None or any(f"{module}.".startswith(f"{prefix}.") for prefix in skip):
                continue
            try:
                # Lines as Python counts them: `splitlines` would also cut at a form feed.
                source = re.sub("\r\n?", "\n", archive.read(name).decode("utf-8-sig"))
                tree = _parse(source)
            except (SyntaxError, UnicodeDecodeError) as error:
                raise UsageError(f"{wheel.name}: cannot read {name}: {error}") from error
            lines = source.split("\n")
            for qualname, method, node in _public(tree.body):
                if ast.get_docstring(node, clean=False) and not _is_stub(node):
                    yield Documented(module, qualname, method, node, lines)


def without_docstring(function: Documented) -> str | None:
    """Return the function's source, decorators and comments included, without its docstring.

    It is dedented, including the text inside multi-line strings; trailing spaces and the blank
    lines that the docstring leaves behind are removed.

    Returns:
        None if the docstring shares a line with code, or if a multi-line string has text left of
            the function, so that it cannot be dedented.
    """
    node, lines = function.node, function.lines
    first = min([node.lineno, *(item.lineno for item in node.decorator_list)]) - 1
    docstring = node.body[0]
    start, end = docstring.lineno - 1, (docstring.end_lineno or 0) - 1
    # Columns count bytes of UTF-8.
    before = lines[start].encode()[: docstring.col_offset].decode()
    after = lines[end].encode()[docstring.end_col_offset :].decode().strip()
    if before.strip() or (after and not after.startswith("#")):
        return None
    rest = lines[end + 1 : node.end_lineno]
    while rest and not rest[0].strip():
        del rest[0]
    kept = [*lines[first:start], *([before + after] if after else []), *rest]
    code = textwrap.dedent("\n".join(line.rstrip() for line in kept))
    try:
        tree = _parse(code)
    except IndentationError:
        return None
    if len(tree.body) != 1 or not isinstance(tree.body[0], Function):
        raise AssertionError(f"{function.id}: what was cut is not one function")
    return code


def argument_count(function: Documented) -> int:
    """Count the parameters a caller sees: not `self` and `cls`, and `*args` as one."""
    given = function.node.args
    named = [*given.posonlyargs, *given.args]
    if function.method and named and named[0].arg in ("self", "cls"):
        del named[0]
    return len([*named, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))])


def has_loop(function: Documented) -> bool:
    """Whether there is a loop or a comprehension in the function."""
    kinds = (ast.For, ast.AsyncFor, ast.While, ast.comprehension)
    return any(isinstance(node, kinds) for node in ast.walk(function.node))


def _parse(source: str) -> ast.Module:
    with warnings.catch_warnings():  # of invalid escapes in other people's code
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _module_name(name: str, package: str) -> str | None:
    """Return the dotted name of a file in the wheel, or None if it is to be skipped."""
    if not name.startswith(f"{package}/") or not name.endswith(".py"):
        return None
    parts = name.removesuffix(".py").split("/")
    if any(_NOT_READ.match(part) for part in parts):
        return None
    return ".".join(parts).removesuffix(".__init__")


def _public(body: Sequence[ast.stmt], prefix: str = "") -> Iterator[tuple[str, bool, Function]]:
    """Yield (qualified name, whether it is a method, node), in order."""
    for node in body:
        if isinstance(node, ast.If):
            yield from _public([*node.body, *node.orelse], prefix)
        elif isinstance(node, ast.Try):
            handlers = [statement for handler in node.handlers for statement in handler.body]
            yield from _public([*node.body, *handlers, *node.orelse], prefix)
        elif isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            if isinstance(node, ast.ClassDef):
                yield from _public(node.body, f"{prefix}{node.name}.")
            else:
                yield f"{prefix}{node.name}", bool(prefix), node


def _is_stub(node: Function) -> bool:
    """Whether the body does nothing beyond the docstring."""
    return all(
        isinstance(statement, ast.Pass)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        or (isinstance(statement, ast.Raise) and "NotImplemented" in ast.dump(statement))
        for statement in node.body[1:]
    )
