"""The twin of a configuration."""

import pytest
import torch
from transformers import (
    Gemma3TextConfig,
    LlamaConfig,
    PretrainedConfig,
    Qwen3NextConfig,
    T5Config,
)

from ftreg.models.twin import VOCABULARY, WINDOW, NoTwinError, twin_of

# As large as models are that people train.
LARGE = [
    LlamaConfig(hidden_size=4096, num_attention_heads=32, num_key_value_heads=8),
    Gemma3TextConfig(),
    Qwen3NextConfig(),
]


@pytest.mark.parametrize("config", LARGE, ids=lambda config: config.model_type)
def test_it_is_small_and_has_each_sort_of_layer(config: PretrainedConfig) -> None:
    twin = twin_of(config)
    assert sum(weight.numel() for weight in twin.parameters()) < 30_000_000
    assert twin.dtype is torch.float32
    assert twin.config.vocab_size == VOCABULARY
    sorts = getattr(config, "layer_types", None) or ["full_attention"]
    assert set(getattr(twin.config, "layer_types", None) or ["full_attention"]) == set(sorts)
    if getattr(config, "sliding_window", None):
        assert twin.config.sliding_window == WINDOW
    shared = twin.config.num_key_value_heads
    assert (twin.config.num_attention_heads > shared) is (
        config.num_attention_heads > config.num_key_value_heads
    )


def test_it_is_always_the_same_and_leaves_random_numbers_as_they_were() -> None:
    torch.manual_seed(3)
    first = twin_of(LARGE[0])
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), drawn)
    second = twin_of(LARGE[0])
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("config", LARGE, ids=lambda config: config.model_type)
def test_what_it_writes_depends_on_every_token_before(config: PretrainedConfig) -> None:
    twin = twin_of(config)
    ids = torch.arange(10, 30)[None]
    with torch.inference_mode():
        whole = twin(input_ids=ids).logits[0]
        assert len(set(whole.argmax(-1).tolist())) > 5
        for place in (0, 9, 18):
            changed = ids.clone()
            changed[0, place] = 200
            shift = (twin(input_ids=changed).logits[0] - whole).abs().amax(-1)
            assert torch.all(shift[:place] == 0)
            assert shift[place] > 0.1 * whole.std()
            # Layers of several sorts hand it on beyond a window.
            assert shift[-1] > 1e-3 * whole.std()


def test_a_configuration_without_a_small_model_is_refused() -> None:
    with pytest.raises(NoTwinError, match="no small t5"):
        twin_of(T5Config())
    with pytest.raises(NoTwinError, match="weights"):
        twin_of(LlamaConfig(head_dim=1 << 17))
