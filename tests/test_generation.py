"""Greedy decoding, against `generate()` of transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from ftreg.generation.decode import decode_greedily


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    loaded = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.mul_(6)  # far from uniform, so that answers differ and end at unlike times
    return loaded


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(3, 200, (3 + 5 * (i % 7),), generator=generator).tolist() for i in range(24)
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


def test_tokens_are_those_of_generate_with_rows_ending_early(model: Any) -> None:
    free = [_reference(model, prompt, stops=[2], most=12) for prompt in prompts()]
    # Tokens that end some answers early and leave others to run on.
    stops = sorted({answer[index % 9] for index, answer in enumerate(free) if index % 3 == 1})[:3]
    expected = [_reference(model, prompt, stops=stops, most=12) for prompt in prompts()]
    lengths = {len(answer) for answer in expected}
    assert len(lengths) > 3
    assert 12 in lengths
    for size in (1, 5, 24):
        written = []
        counts: list[int] = []
        for start in range(0, 24, size):
            written += decode_greedily(
                prompts()[start : start + size],
                model=model,
                stops=frozenset(stops),
                max_new_tokens=12,
                ended=counts.append,
            )
        assert written == expected
        assert sum(counts) == 24


def test_one_new_token(model: Any) -> None:
    written = decode_greedily(prompts()[:2], model=model, stops=frozenset(), max_new_tokens=1)
    assert [len(answer) for answer in written] == [1, 1]
