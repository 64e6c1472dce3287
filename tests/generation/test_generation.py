"""Greedy decoding, against `generate()` of transformers."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from ftreg.data.dataset import load_dataset
from ftreg.generation.kernels import continuous, packed_linear, prefill, slot_attention
from ftreg.generation.kernels.continuous import decode_continuously
from ftreg.generation.kernels.packed_linear import bf16_is_fast, packed_linears
from ftreg.generation.ways import ProvenWay, Way, choose_way, decoder_of
from ftreg.models.chat_template import Chat
from ftreg.models.packaged import pull
from ftreg.models.pretrained import load_tokenizer
from tests.architectures import ARCHITECTURES, build

same_bits = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512", reason="a property of these kernels"
)
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Passes of a tiny model take longer to share out than to compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _spread(model: Any) -> Any:
    """Take random weights far from uniform, so that answers differ and end at unlike times."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6)
    return model.eval()


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return _spread(AutoModelForCausalLM.from_pretrained(tiny_model))


def prompts(shortest: int = 3) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(3, 200, (shortest + 5 * (i % 7),), generator=generator).tolist()
        for i in range(24)
    ]


def _reference(model: Any, prompt: list[int], *, stops: list[int], most: int) -> list[int]:
    written = model.generate(
        input_ids=torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=most,
        eos_token_id=stops,
        pad_token_id=0,
    )
    return list(written[0, len(prompt) :].tolist())


def _references(model: Any, asked: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    """Return tokens that end some answers early and leave others to run on, and the answers."""
    free = [_reference(model, prompt, stops=[2], most=12) for prompt in asked]
    chosen = {answer[index % 9 % len(answer)] for index, answer in enumerate(free)}
    stops = [2, *sorted(chosen)[:3]]
    expected = []
    for answer in free:
        ends = [place for place, token in enumerate(answer) if token in stops]
        expected.append(answer[: ends[0] + 1] if ends else answer)
    assert len({len(answer) for answer in expected}) > 1
    return stops, expected


def _decoded(
    model: Any,
    asked: list[list[int]],
    stops: list[int],
    *,
    way: Way = Way.CONTINUOUS,
    **settings: Any,
) -> Any:
    written: dict[int, list[int]] = {}

    def ended(index: int, tokens: list[int]) -> None:
        assert index not in written
        written[index] = list(tokens)

    ends = frozenset(stops)
    decoder_of(way)(asked, model=model, stops=ends, ended=ended, **settings)
    return [written[index] for index in range(len(asked))]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_tokens_are_those_of_generate_at_every_batch_size(model: Any, attention: str) -> None:
    stops, expected = _references(model, prompts())
    assert len({len(answer) for answer in expected}) > 3
    model.set_attn_implementation(attention)
    for size in (1, 2, 5, 24, 64):
        settings = {"max_new_tokens": 12, "batch_size": size}
        assert _decoded(model, prompts(), stops, **settings) == expected
    model.set_attn_implementation("sdpa")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_kernels_write_the_tokens_that_are_written_without(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FTREG_CACHE", str(tmp_path))
    built = build(ARCHITECTURES[name], spread=6)
    way = Way.CONTINUOUS if ARCHITECTURES[name].plain else Way.BATCHES
    assert choose_way(built, prompts()) == ProvenWay(way)
    assert choose_way(built, prompts(), kernels=False) == ProvenWay(Way.BATCHES)
    for size in (1, 5):
        settings = {"max_new_tokens": 12, "batch_size": size}
        found = _decoded(built, prompts(), [2], way=way, **settings)
        assert len(set(map(tuple, found))) > 12
        assert _decoded(built, prompts(), [2], way=Way.BATCHES, **settings) == found


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_tokens_are_those_of_generate_in_every_architecture(name: str) -> None:
    built = build(ARCHITECTURES[name], spread=6)
    way = Way.CONTINUOUS if ARCHITECTURES[name].plain else Way.BATCHES
    stops, expected = _references(built, prompts())
    for size in (1, 5):
        settings = {"max_new_tokens": 12, "batch_size": size}
        assert _decoded(built, prompts(), stops, way=way, **settings) == expected


@pytest.mark.parametrize("together", [2, 7, 64])
def test_prompts_read_together(model: Any, together: int) -> None:
    asked = [prompts()[0][:1], *prompts()[1:12]]
    stops, expected = _references(model, asked)
    written: dict[int, list[int]] = {}
    decode_continuously(
        asked,
        model=model,
        stops=frozenset(stops),
        max_new_tokens=12,
        batch_size=7,
        ended=written.__setitem__,
        together=together,
    )
    assert [written[index] for index in range(len(asked))] == expected


def test_prompts_of_one_token_and_answers_of_one_token(model: Any) -> None:
    asked = [prompt[:1] for prompt in prompts()[:3]] + prompts()[:2]
    expected = [_reference(model, prompt, stops=[2], most=1) for prompt in asked]
    assert _decoded(model, asked, [2], max_new_tokens=1, batch_size=2) == expected
    assert _decoded(model, [], [2], max_new_tokens=1, batch_size=2) == []


def _alike(beginning: int) -> list[list[int]]:
    """Prompts that begin alike; one ends there, one is a single token."""
    own = prompts(shortest=1)[:10]
    start = prompts()[1][:beginning]
    return [[*start, *own[0]], start[:1], start, *([*start, *ids] for ids in own[1:])]


@pytest.mark.parametrize("room", [1, 40, 1024])
@pytest.mark.parametrize(("beginning", "shares"), [(1, True), (2, True), (8, True), (8, False)])
def test_prompts_read_in_rows(
    model: Any, room: int, beginning: int, shares: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefill, "_ROW", room)
    if shares:  # fp32 does not, and bf16 has no reference
        monkeypatch.setattr(prefill, "_shares", lambda model: True)
    asked = _alike(beginning)
    passes: list[int] = []
    read = prefill.Prefill._forward

    def watched(self: Any, **inputs: Any) -> Any:
        passes.append(inputs["input_ids"].shape[1])
        return read(self, **inputs)

    monkeypatch.setattr(prefill.Prefill, "_forward", watched)
    stops, expected = _references(model, asked)
    settings = {"max_new_tokens": 12, "batch_size": 5}
    assert _decoded(model, asked, stops, **settings) == expected
    assert model.config._attn_implementation == "sdpa"
    known = sum(len(prompt) - 1 for prompt in asked)
    if room == 1024:  # the one of a single token begins nothing; another ends with the beginning
        repeats = len(asked) - 2 if shares else 0
        assert passes == [known - repeats * max(beginning - 2, 0)]
    else:
        assert len(passes) > 1


@same_bits
def test_a_row_of_prompts_changes_no_bit() -> None:
    # Widths of whole vectors, as real models have them: torch computes what is left over otherwise.
    sizes = {"vocab_size": 300, "hidden_size": 64, "intermediate_size": 128, "head_dim": 32}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
    torch.manual_seed(0)
    model = _spread(AutoModelForCausalLM.from_config(LlamaConfig(**sizes, **heads)))
    asked = _alike(8)
    with packed_linear.packed_linears(model), torch.inference_mode():
        in_rows, alone = (
            prefill.Prefill(asked, model=model, slots=4, together=together)
            for together in (None, 1)
        )
        for row, single in zip(in_rows.take(len(asked)), alone.take(len(asked)), strict=True):
            assert row.prompt == single.prompt
            for layers in zip(row.cache.layers, single.cache.layers, strict=True):
                for kind in ("keys", "values"):
                    of_row, of_single = (
                        torch.cat([getattr(layer, kind)[0, :, part] for part in read.columns], 1)
                        for layer, read in zip(layers, (row, single), strict=True)
                    )
                    assert torch.equal(of_row, of_single)
    assert not in_rows.left
    assert not alone.left


@same_bits
def test_packed_weights_give_a_row_the_same_bits_beside_any_others() -> None:
    torch.manual_seed(0)
    layers = [torch.nn.Linear(576, 192), torch.nn.Linear(1536, 64, bias=False)]
    for layer in layers:
        for dtype in (torch.float32, torch.bfloat16):
            layer = layer.to(dtype)
            rows = torch.randn(40, layer.in_features, dtype=dtype)
            with torch.inference_mode():
                plain = layer(rows)
                with packed_linears(layer):
                    together = layer(rows)
                    for count in (1, 2, 3, 7, 33):
                        assert torch.equal(layer(rows[:count]), together[:count])
                    assert torch.equal(layer(rows[None, :, None])[0, :, 0], together)
                assert torch.equal(layer(rows), plain)
            torch.testing.assert_close(together, plain)


def test_packing_leaves_alone_what_computes_something_else() -> None:
    class Doubled(torch.nn.Linear):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(rows)

    wrapped: Callable[[torch.Tensor], torch.Tensor] = lambda rows: rows  # noqa: E731
    hooked = torch.nn.Linear(4, 4)
    hooked.forward = wrapped  # type: ignore[method-assign]
    layers = torch.nn.ModuleList([Doubled(4, 4), hooked, torch.nn.Linear(4, 4).double()])
    with packed_linears(layers):
        assert "forward" not in layers[0].__dict__
        assert layers[1].forward is wrapped
        assert "forward" not in layers[2].__dict__
    assert hooked.forward is wrapped


@same_bits
def test_bf16_does_not_depend_on_the_batch(tiny_model: Path) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16)
    loaded = _spread(loaded)
    settings = {"max_new_tokens": 12}
    alone = _decoded(loaded, prompts(), [2], batch_size=1, **settings)
    for size in (3, 24):
        assert _decoded(loaded, prompts(), [2], batch_size=size, **settings) == alone


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_of_like_length_are_attended_to_in_parts(
    tiny_model: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = _spread(AutoModelForCausalLM.from_pretrained(tiny_model, dtype=dtype))
    generator = torch.Generator().manual_seed(1)
    lengths = [200] * 9 + [70] * 7 + [20] * 8
    asked = [torch.randint(3, 200, (n,), generator=generator).tolist() for n in lengths]
    settings = {"max_new_tokens": 6, "batch_size": 24}
    widths: list[int] = []
    name = "_by_kernel" if dtype is torch.float32 or not bf16_is_fast() else "_by_products"
    attend = getattr(slot_attention, name)

    def watched(module: Any, query: Any, key: Any, *others: Any, **settings: Any) -> Any:
        widths.append(key.shape[2])
        output = attend(module, query, key, *others, **settings)
        exact = [part.float() for part in (query, key, *others)]
        close = {"atol": 0.02, "rtol": 0.02} if dtype is torch.bfloat16 else {}
        kernel = slot_attention.sdpa_attention_forward(module, *exact, **settings)[0]
        torch.testing.assert_close(output.float(), kernel, **close)
        return output

    monkeypatch.setattr(slot_attention, name, watched)
    found = _decoded(loaded, asked, [2], **settings)
    # Rows go by eights, and the ninth is as long as those before it.
    assert widths[:2] == [256, 64]
    assert loaded.config._attn_implementation == "sdpa"
    if dtype is torch.float32:
        with monkeypatch.context() as patch:
            patch.setattr(continuous, "slot_attentions", contextlib.nullcontext)
            assert _decoded(loaded, asked, [2], **settings) == found
        assert found == [_reference(loaded, prompt, stops=[2], most=6) for prompt in asked]


@pytest.mark.slow
def test_packaged_model_writes_the_tokens_of_generate() -> None:
    folder = pull("smollm2-135m-instruct")
    tokenizer: Any = load_tokenizer(folder)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    torch.set_num_threads(2)
    dataset = load_dataset("code-summary@2", root=ROOT / "sample_datasets")
    rows = list(dataset.split("eval"))[:16]
    chat = Chat(tokenizer)
    asked = [chat.prompt(dataset.card.prompt.messages(row)) for row in rows]
    asked.sort(key=len)
    stop = tokenizer.eos_token_id
    expected: list[list[int]] = []
    for start in range(0, 16, 8):
        padded = tokenizer.pad(
            {"input_ids": asked[start : start + 8]}, padding_side="left", return_tensors="pt"
        )
        written = loaded.generate(**padded, do_sample=False, max_new_tokens=24)
        for answer in written[:, padded["input_ids"].shape[1] :].tolist():
            expected.append(answer[: answer.index(stop) + 1] if stop in answer else answer)
    for size in (4, 10):
        assert _decoded(loaded, asked, [stop], max_new_tokens=24, batch_size=size) == expected
