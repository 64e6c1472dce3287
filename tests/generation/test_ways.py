"""Each model is decoded in a way that is proven on it.

Public reports of models whose outputs depended on padding or on a cache:
https://github.com/huggingface/transformers/issues/24694 (GPT-Neo),
https://github.com/huggingface/transformers/issues/31540 and
https://github.com/huggingface/transformers/issues/32677 (recurrent states),
https://github.com/huggingface/transformers/issues/46773 (layers of several sorts).
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ftreg.generation import ways
from ftreg.generation.kernels.slots import SlotCache, SlotLayer
from ftreg.generation.ways import ProvenWay, Way, choose_way, decoder_of
from tests.architectures import ARCHITECTURES, UNCOMMON, build, write_model
from tests.conftest import Cli

ALL = {**UNCOMMON, **ARCHITECTURES}
# Padding gets into the states of these.
ONE_AT_A_TIME = {"rwkv", "recurrent_gemma", "minimax"}
# A cache that looks plain, or a model that looks as if it took ftreg's arguments, and is not.
DECEIVES = {"gpt_neo", "openai-gpt", "stablelm", "nemotron"}


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of its own, and one thread: tiny passes take longer to share out."""
    monkeypatch.setenv("FTREG_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [
        torch.randint(3, 200, (size,), generator=generator).tolist()
        for size in (19, 14, 11, 7, 4, 1)
    ]


def of_generate(model: Any) -> list[list[int]]:
    answers = []
    for prompt in prompts():
        written = model.generate(
            input_ids=torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=8,
            eos_token_id=2,
            pad_token_id=0,
        )
        answers.append(written[0, len(prompt) :].tolist())
    return answers


def decoded(model: Any, way: Way, *, batch_size: int) -> list[list[int]]:
    found: dict[int, list[int]] = {}
    decoder_of(way)(
        prompts(),
        model=model,
        stops=frozenset([2]),
        max_new_tokens=8,
        batch_size=batch_size,
        ended=found.__setitem__,
    )
    return [found[place] for place in range(len(found))]


@pytest.mark.parametrize("name", UNCOMMON)
def test_every_architecture_writes_the_tokens_of_generate_alone(name: str) -> None:
    model = build(UNCOMMON[name], spread=6)
    chosen = choose_way(model, prompts())
    expected = of_generate(model)
    assert len(set(map(tuple, expected))) > 4
    for size in (1, 4):
        assert decoded(model, chosen.way, batch_size=size) == expected
    assert (chosen.way is Way.ALONE) is (name in ONE_AT_A_TIME)
    assert bool(chosen.why) is (name in ONE_AT_A_TIME | DECEIVES)
    if chosen.way is Way.ALONE:  # or the slow way would be taken for nothing
        assert decoded(model, Way.BATCHES, batch_size=4) != expected


def _rows_are_not_moved(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SlotLayer, "move", lambda self, source, target: None)


def _an_old_token_is_hidden(patch: pytest.MonkeyPatch) -> None:
    advance = SlotCache.advance

    def hides(self: Any, lengths: torch.Tensor) -> torch.Tensor:
        mask = advance(self, lengths)
        mask[:, 0] = False
        return mask

    patch.setattr(SlotCache, "advance", hides)


def _it_breaks(patch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any) -> None:
        raise IndexError("no such slot")

    patch.setattr(SlotCache, "admit", breaks)


@pytest.mark.parametrize("fault", [_rows_are_not_moved, _an_old_token_is_hidden, _it_breaks])
def test_a_fault_of_a_kernel_shows_on_the_twin(
    fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(ARCHITECTURES["llama"], spread=6)
    assert choose_way(model, prompts()) == ProvenWay(Way.CONTINUOUS)
    fault(monkeypatch)
    monkeypatch.setattr(ways, "VERSION", ways.VERSION + 1)  # or what was proven counts
    chosen = choose_way(model, prompts())
    assert chosen.way is Way.BATCHES
    assert "on a small model of its configuration" in str(chosen.why)


def test_a_fault_in_the_precision_of_the_model_shows_on_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = build(ARCHITECTURES["llama"], spread=6).bfloat16()
    assert choose_way(model, prompts()) == ProvenWay(Way.CONTINUOUS)
    written = SlotLayer._written

    def loses(self: Any, stored: Any, states: torch.Tensor) -> torch.Tensor:
        return written(self, stored, states * (states.dtype is torch.float32))

    monkeypatch.setattr(SlotLayer, "_written", loses)
    chosen = choose_way(model, prompts())
    assert chosen.way is Way.BATCHES
    assert "on this model" in str(chosen.why)


def test_a_proof_costs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(ARCHITECTURES["llama"], spread=6)
    chosen = choose_way(model, prompts())
    monkeypatch.setattr(ways, "twin_of", None)
    assert choose_way(model, prompts()) == chosen


def test_what_has_no_twin_is_decoded_one_prompt_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise ways.NoTwinError("too large")

    monkeypatch.setattr(ways, "twin_of", none)
    chosen = choose_way(build(ARCHITECTURES["llama"], spread=6), prompts())
    assert chosen.way is Way.ALONE
    assert "too large" in str(chosen.why)


def _evaluated(cli: Cli, size: int) -> tuple[dict[str, Any], list[Any], str]:
    before = set(Path("evaluations").glob("*/evaluation.json"))
    done = cli("eval", "checkpoints/a", "--no-gate", "-s", f"eval.batch_size={size}")
    assert done.code == 0, done
    (new,) = set(Path("evaluations").glob("*/evaluation.json")) - before
    rows = [json.loads(line) for line in (new.parent / "outputs.jsonl").read_text().splitlines()]
    return json.loads(new.read_text())["generation"], rows, done.err


def _trained(cli: Cli, config: Path, name: str, *, tokenizer: Path, tmp_path: Path) -> None:
    base = write_model(tmp_path / name, ALL[name], spread=6, tokenizer=tokenizer)
    given = ["-s", f"base.model={base}", "-s", "optimizer.lr=1e-7", "-s", "train.packing=false"]
    done = cli("train", config, *given, "-o", "checkpoints/a")
    assert done.code == 0, done


@pytest.mark.parametrize(("name", "way"), [("gpt_neo", "batches"), ("rwkv", "one at a time")])
def test_an_evaluation_records_its_way_and_does_not_depend_on_the_batch(
    name: str, way: str, cli: Cli, config: Path, tiny_model: Path, tmp_path: Path
) -> None:
    _trained(cli, config, name, tokenizer=tiny_model, tmp_path=tmp_path)
    generation, rows, told = _evaluated(cli, 1)
    assert generation["way"] == way
    assert told.count("is not used, because on") == 1
    assert cli("clean", "outputs", "--all").code == 0
    again, same, _ = _evaluated(cli, 4)
    assert (again["way"], again["taken"]) == (way, 0)
    assert same == rows
    assert len({row["output"] for row in rows}) > 4


def test_a_model_that_cannot_generate_is_refused(
    cli: Cli, config: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _trained(cli, config, "llama", tokenizer=tiny_model, tmp_path=tmp_path)
    model = type(build(ARCHITECTURES["llama"], spread=1))

    def fails(*_: Any, **__: Any) -> None:
        raise IndexError("list index out of range")

    monkeypatch.setattr(model, "generate", fails)
    done = cli("eval", "checkpoints/a", "--no-gate")
    assert done.code == 2, done
    assert "cannot generate with a model of the type 'llama'" in done.err
    assert "Traceback" not in done.err


def test_pages_hold_the_tokens_of_generate() -> None:
    """On a CPU, where transformers' continuous batching is tried and not taken."""
    model = build(ALL["llama"], spread=6)
    assert ways.departs_on_twin(model, Way.PAGED) is None
    expected = of_generate(model)
    written: dict[int, list[int]] = {}
    decoder_of(Way.PAGED)(
        prompts(),
        model=model,
        stops=frozenset([2]),
        max_new_tokens=8,
        batch_size=2,
        ended=written.__setitem__,
    )
    assert [written[place] for place in range(len(expected))] == expected
    assert model.config._attn_implementation == "sdpa"
    assert choose_way(model, prompts()).way is Way.CONTINUOUS


def test_pages_are_taken_where_a_gpu_captures_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "pages_fast", lambda model: True)
    model = build(ALL["llama"], spread=6)
    assert choose_way(model, prompts()).way is Way.PAGED
    assert choose_way(model, prompts(), kernels=False).way is Way.BATCHES

    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("no graph")

    monkeypatch.setattr(ways, "decode_paged", fails)
    found = choose_way(build(ALL["qwen2"], spread=6), prompts())
    assert found.way is Way.CONTINUOUS
    assert "it fails: RuntimeError: no graph" in str(found.why)
