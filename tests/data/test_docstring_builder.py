import ast
import json
import textwrap
import zipfile
from pathlib import Path

import pytest

from ftreg.data.builders import build_splits, docstrings
from ftreg.data.builders.docstrings import Recipe, build, read_recipe
from ftreg.errors import UsageError
from ftreg.files.store import file_digest

ADD = '''
"""A module."""
import os

@cache(
    size=2,
)
def add_numbers(left, right=0, *rest, **options):
    """Add the numbers of two ``lists`` with :func:`~operator.add`. Then rest.

    >>> add_numbers([1], [2])
    """

    # é before the loop
    for number in right:
        left += number
    return left


class Stack:
    """A class."""

    @property
    def height(self):
        """Return the *height* of
        the stack.
        """  # counted
        return len(self.items)

    async def drain(self, limit: int) -> None:
        """Remove items from the stack until a limit is reached."""
        while self.items:
            self.items.pop()

    def _hidden(self):
        """Return something that nobody outside should see."""
        return self.items

class _Private:
    def method(self):
        """Return the method of a private class."""
        return self.method
'''

REJECTED = '''
def stub_only(value):
    """Return a value that is never computed here."""
    raise NotImplementedError

def just_pass(value):
    """Return a value that just passes through."""
    pass

def one_line(value): """Return the value of one line."""; return value

def lower(value):
    """return the value in lower case letters."""
    return value.lower()

def no_stop(value):
    """Return the value without a full stop"""
    return value

def deprecated(value):
    """Deprecated function that returns a value."""
    return value

def doctest(value):
    """Return the value >>> value of the doctest."""
    return value

def fields(value):
    """
    Return the value of the fields
    :param value: the value.
    """
    return value

def slip(value):
    """Return the value. according to nobody."""
    return value

def unrelated(x):
    """Summon seven hungry dragons tonight."""
    return [x, x, x, x]

class Text:
    def left_text(self, value):
        """Return the text left of the margin."""
        text = """
outside the function"""
        return value if value else text

def demo_value(value):
    """Return the value of a demonstration."""
    return value

def outer(value):
    """Return the value of the outer function."""
    def inner(value):
        """Return the value of the inner function."""
        return value
    return inner(value)

try:
    import fast
except ImportError:
    def fallback(value):
        """Return the value of the fallback function."""
        return fast(value)
'''

REPEATED = '''
def add_again(left):
    """Remove items from the STACK, until a limit is reached."""
    return left.items.stack.remove()

def width(stack):
    """Return the width of a stack of plates."""
    return max(stack.plates)
'''

CHECK = 'def check(x):\n    """Return the value of a check."""\n    return x\n'
FILES = {
    "toy/__init__.py": "",
    "toy/adding.py": ADD,
    "toy/rejected.py": REJECTED,
    "toy/repeated.py": REPEATED.replace("\n", "\r\n"),
    "toy/tests/test_all.py": CHECK,
    "toy/_private.py": CHECK,
    "toy/gui/window.py": CHECK,
    "other/more.py": CHECK,
    "toy/data.txt": "no code",
}


def recipe(**changes):
    package = {
        "requirement": "toy==1.0",
        "sha256": "0" * 64,
        "license": "MIT",
        "import_name": "toy",
        "skip": ["toy.gui"],
    }
    fields = {
        "builder": "docstrings",
        "seed": 0,
        "eval_share": 0.3,
        "packages": [package],
        "filters": {
            "code_characters": {"min": 20, "max": 400},
            "summary_words": {"min": 4, "max": 25},
            "summary_overlap": 1,
        },
    }
    return Recipe.model_validate({**fields, **changes})


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    def make(files):
        path = tmp_path / "toy-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in files.items():
                archive.writestr(name, text)

        def fetch(requirement, sha256):
            assert (requirement, sha256) == ("toy==1.0", "0" * 64)
            return path

        monkeypatch.setattr(docstrings, "fetch_wheel", fetch)
        return path

    make(FILES)
    return make


def rows_of(written):
    return {
        split: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for split, path in written.items()
    }


def by_id(written):
    return {row["id"]: row for rows in rows_of(written).values() for row in rows}


def test_a_row_is_the_function_without_its_docstring_and_the_first_sentence(wheel, tmp_path):
    row = by_id(build(recipe(), tmp_path))["toy.adding.add_numbers"]
    assert row["reference"] == "Add the numbers of two `lists` with `operator.add`."
    expected = """\
        @cache(
            size=2,
        )
        def add_numbers(left, right=0, *rest, **options):
            # é before the loop
            for number in right:
                left += number
            return left"""
    assert row["input"] == textwrap.dedent(expected)
    assert row["tags"] == {
        "package": "toy",
        "module": "toy.adding",
        "kind": "function",
        "length": "short",
        "arguments": "many",
        "loops": "yes",
    }


def test_methods_are_dedented_and_self_is_no_argument(wheel, tmp_path):
    rows = by_id(build(recipe(), tmp_path))
    height = rows["toy.adding.Stack.height"]
    assert height["reference"] == "Return the `height` of the stack."
    assert height["input"].splitlines() == [
        "@property",
        "def height(self):",
        "    # counted",
        "    return len(self.items)",
    ]
    assert (height["tags"]["kind"], height["tags"]["arguments"]) == ("method", "none")
    drain = rows["toy.adding.Stack.drain"]
    assert drain["input"].startswith("async def drain")
    assert (drain["tags"]["arguments"], drain["tags"]["loops"]) == ("few", "yes")


def test_only_public_documented_functions_with_a_real_sentence_are_kept(wheel, tmp_path):
    assert set(by_id(build(recipe(), tmp_path))) == {
        "toy.adding.add_numbers",
        "toy.adding.Stack.height",
        "toy.adding.Stack.drain",
        "toy.rejected.outer",
        "toy.rejected.fallback",
        "toy.repeated.width",
    }


def test_every_input_is_one_function_and_no_input_or_summary_repeats(wheel, tmp_path):
    rows = list(by_id(build(recipe(), tmp_path)).values())
    for row in rows:
        assert len(ast.parse(row["input"]).body) == 1
        assert row["reference"] not in row["input"]
    assert len({row["input"].casefold() for row in rows}) == len(rows)
    assert len({row["reference"].casefold() for row in rows}) == len(rows)


@pytest.mark.parametrize("seed", range(5))
def test_the_splits_share_no_module_and_neither_is_empty(wheel, tmp_path, seed):
    splits = rows_of(build(recipe(seed=seed), tmp_path))
    train, held_out = ({row["tags"]["module"] for row in splits[name]} for name in splits)
    assert train and held_out and not train & held_out


def test_the_filters_do_not_move_a_module_to_the_other_split(wheel, tmp_path):
    loose = {"code_characters": {"min": 0, "max": 9999}, "summary_words": {"min": 1, "max": 99}}
    strict = rows_of(build(recipe(), tmp_path / "strict"))
    for split, rows in rows_of(build(recipe(filters=loose), tmp_path / "loose")).items():
        other = strict["eval" if split == "train" else "train"]
        assert not {row["id"] for row in rows} & {row["id"] for row in other}


def test_the_same_recipe_gives_the_same_bytes_and_another_seed_another_order(wheel, tmp_path):
    def digests(folder, **changes):
        written = build(recipe(**changes), tmp_path / folder)
        return {name: file_digest(path) for name, path in written.items()}

    assert digests("a") == digests("b")
    assert len({digests(f"seed{seed}", seed=seed)["train"] for seed in range(4)}) > 1


def test_both_ends_of_the_length_filters_are_kept(wheel, tmp_path):
    def kept(folder, low, high):
        filters = {
            "code_characters": {"min": low, "max": high},
            "summary_words": {"min": 4, "max": 25},
        }
        return set(by_id(build(recipe(filters=filters), tmp_path / folder)))

    sizes = {name: len(row["input"]) for name, row in by_id(build(recipe(), tmp_path)).items()}
    low, high = min(sizes.values()), max(sizes.values())
    assert kept("all", low, high) == set(sizes)
    assert kept("no short", low + 1, high) == {name for name, size in sizes.items() if size > low}
    assert kept("no long", low, high - 1) == {name for name, size in sizes.items() if size < high}
    with pytest.raises(UsageError, match="no row for the split"):
        kept("none", high + 1, high + 1)


def test_a_file_that_does_not_parse_is_an_error_and_not_skipped(wheel, tmp_path):
    wheel({**FILES, "toy/broken.py": "def broken(:\n"})
    with pytest.raises(UsageError, match=r"toy-1\.0.*toy/broken\.py"):
        build(recipe(), tmp_path)


def test_invalid_escapes_in_a_package_raise_no_warning(wheel, tmp_path):
    escape = (
        'def digits(text):\n    """Return the digits of a text."""\n    return find("\\d", text)\n'
    )
    wheel({**FILES, "toy/escape.py": escape})
    assert "toy.escape.digits" in by_id(build(recipe(), tmp_path))


def test_no_code_of_a_package_is_run(wheel, tmp_path):
    wheel({**FILES, "toy/trap.py": "raise SystemExit('the package was imported')\n"})
    assert by_id(build(recipe(), tmp_path))


def test_build_splits_reads_the_builder_from_the_recipe(wheel, tmp_path):
    path = tmp_path / "recipe.yaml"
    text = f"""\
        builder: docstrings
        seed: 0
        eval_share: 0.3
        packages:
          - {{requirement: toy==1.0, sha256: "{"0" * 64}", license: MIT, import_name: toy}}
        filters:
          code_characters: {{min: 20, max: 400}}
          summary_words: {{min: 4, max: 25}}
        """
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    written = build_splits(path, tmp_path / "out")
    assert {item.name for item in written.values()} == {"train.jsonl", "eval.jsonl"}
    path.write_text(path.read_text().replace("docstrings", "docstring"))
    with pytest.raises(UsageError, match="did you mean docstrings"):
        build_splits(path, tmp_path / "out")


def test_a_mistake_in_a_recipe_is_named_with_its_line(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("builder: docstrings\nseed: 0\neval_shar: 0.1\n")
    with pytest.raises(UsageError, match=r"recipe\.yaml:3.*did you mean eval_share"):
        read_recipe(path)


@pytest.mark.parametrize("version", [1, 2])
def test_the_recipes_that_come_with_the_project_are_valid(version):
    folder = Path(__file__).parents[2] / "sample_datasets/code-summary" / f"v{version}"
    made = read_recipe(folder / "recipe.yaml")
    assert made.packages[0].import_name == "networkx"
    assert len({package.import_name for package in made.packages}) == len(made.packages)
