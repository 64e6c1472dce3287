"""Fifty-four sound exports, each of another make: parity finds nothing wrong with any of them."""

from itertools import cycle, islice, product
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import Cli, write_dataset
from tests.deployable import CHATML, INST, MODELS, TOOLS, tokenizer_of, write_base

pytest.importorskip("xllamacpp")

SETTINGS = """\
base: {model: base}
dataset: {version: colours@1, root: datasets}
optimizer: {name: adamw, lr: 1e-5}
train: {batch_size: 4, precision: fp32, threads: 1}
eval: {max_new_tokens: 4, scorers: [equals]}
"""
# Adapters beside every matrix of a layer; phi3 has its queries, keys and values in one.
LORA = "lora: {r: 4, alpha: 32, target_modules: all-linear}\n"
HEADERS = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]\n\n{{ m['content'] | trim }}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]\n\n{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
    "<start>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] | trim }}"
    "<end>\n{% endfor %}{% if add_generation_prompt %}<start>model\n{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "inst": INST, "headers": HEADERS, "bare": NO_SYSTEM, "tools": TOOLS}
ALWAYS_TIED = ("gemma", "gemma2")
PRECISIONS = ("f32", "f16", "bf16", "q8_0", "q4_0")


class Made(NamedTuple):
    """How a checkpoint was made, and the precisions that it is exported in."""

    architecture: str
    adapted: bool
    gentle: bool
    """Trained so little that f16 loses most of it, of weights that f16 holds exactly."""
    tied: bool
    tokenizer: str
    template: str
    precisions: tuple[str, ...]


def made() -> list[Made]:
    """Every architecture, fully trained and with adapters; the rest takes turns."""
    byte_level = cycle(("gpt-2", "smollm", "llama-bpe", "qwen2", "tekken", "gpt-4o"))
    template, precision = cycle(TEMPLATES), cycle(PRECISIONS)
    found = []
    for number, (adapted, name) in enumerate(product((False, True), MODELS)):
        words = MODELS[name][2]
        words = words if words.startswith("spm") else next(byte_level)
        tied = number % 2 == 0 or name in ALWAYS_TIED
        turn = tuple(islice(precision, 3))
        gentle = number % 4 < 2
        found.append(Made(name, adapted, gentle, tied, words, next(template), turn))
    return found


SOUND = made()
assert sum(len(item.precisions) for item in SOUND) >= 50


def write_model(folder: Path, item: Made) -> None:
    """Write the base model."""
    tokenizer = tokenizer_of(item.tokenizer)
    write_base(
        folder,
        item.architecture,
        tokenizer=tokenizer,
        tie_word_embeddings=item.tied,
        rounded=item.gentle,
    )
    folder.joinpath("chat_template.jinja").write_text(TEMPLATES[item.template], "utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("item", SOUND, ids=lambda item: "-".join(map(str, item[:-1])))
def test_nothing_is_wrong_with_a_sound_export(item: Made, workspace: Path, cli: Cli) -> None:
    write_dataset(workspace / "datasets")
    write_model(workspace / "base", item)
    Path("run.yaml").write_text(SETTINGS + LORA * item.adapted, "utf-8")
    lr = "optimizer.lr=1e-5" if item.gentle else "optimizer.lr=1e-2"
    trained = cli("train", "run.yaml", "-s", lr, "-o", "made", "-q")
    assert trained.code == 0, trained
    for precision in item.precisions:
        file = f"made-{precision}.gguf"
        exported = cli("export", "made", "--to", f"gguf:{precision}", "-o", file, "-q")
        assert exported.code == 0, exported
        found = cli("parity", "made", file, "-q", "--json")
        assert (found.code, found.json["findings"]) == (0, []), found
