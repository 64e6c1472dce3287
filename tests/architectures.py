"""Tiny random models of architectures that need different handling by the kernels."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM

# The vocabulary size of `make_model`'s tokenizer.
SIZES = {"vocab_size": 259, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"max_position_embeddings": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
HIDDEN = {**SIZES, "hidden_size": 32, "intermediate_size": 64}
SHARED_HEADS = {**HIDDEN, "num_key_value_heads": 2}
WINDOWED = {**SHARED_HEADS, "head_dim": 8, "sliding_window": 8}
GPT2 = {"vocab_size": 259, "n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 512}
GPT2 |= {"bos_token_id": 1, "eos_token_id": 2}
UNDROPPED = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}


@dataclass(frozen=True, slots=True)
class Architecture:
    """A configuration of transformers; `plain` if tokens attend to all earlier tokens."""

    config: str
    settings: dict[str, Any]
    plain: bool = True


# Rotary and learned positions, with and without shared key-value heads, tied and untied output
# heads; then models with their own attention and cache: sliding windows.
ARCHITECTURES = {
    "llama": Architecture("LlamaConfig", {**SHARED_HEADS, "tie_word_embeddings": True}),
    "qwen2": Architecture("Qwen2Config", SHARED_HEADS),
    "qwen3": Architecture("Qwen3Config", {**SHARED_HEADS, "head_dim": 8}),
    "gemma": Architecture("GemmaConfig", {**SHARED_HEADS, "head_dim": 8}),
    "phi3": Architecture("Phi3Config", SHARED_HEADS),
    "neox": Architecture("GPTNeoXConfig", HIDDEN),
    "gpt2": Architecture("GPT2Config", {**GPT2, **UNDROPPED}),
    "mistral": Architecture("MistralConfig", WINDOWED, plain=False),
    "gemma2": Architecture("Gemma2Config", WINDOWED, plain=False),
    "gemma3": Architecture("Gemma3TextConfig", WINDOWED, plain=False),
}
# Its attention ignores positions that restart within a row.
OPT = Architecture(
    "OPTConfig",
    {**SIZES, "hidden_size": 32, "ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.0},
)
# Models that only some decoding paths support: recurrent states, mixed layer types, local attention
# not visible in the cache, learned positions that start at the row instead of the prompt.
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8}
LINEAR |= {"linear_value_head_dim": 8, "head_dim": 8}
SSM = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8}
SSM |= {"mamba_chunk_size": 16}
MIXED = ["linear_attention", "full_attention"]
UNCOMMON = {
    "gpt_neo": Architecture(
        "GPTNeoConfig",
        {
            **{key: SIZES[key] for key in ("vocab_size", "bos_token_id", "eos_token_id")},
            **{"hidden_size": 32, "num_layers": 2, "num_heads": 4, "window_size": 8},
            **{"attention_types": [[["global", "local"], 1]], "max_position_embeddings": 512},
        },
    ),
    "mamba": Architecture("MambaConfig", {**SIZES, "hidden_size": 32, "state_size": 8}),
    "falcon_mamba": Architecture("FalconMambaConfig", {**SIZES, "hidden_size": 32}),
    "mamba2": Architecture(
        "Mamba2Config",
        {
            **SIZES,
            "hidden_size": 32,
            "num_heads": 8,
            "head_dim": 8,
            "n_groups": 1,
            "chunk_size": 16,
        },
    ),
    "rwkv": Architecture(
        "RwkvConfig",
        {**SIZES, "hidden_size": 32, "attention_hidden_size": 32, "context_length": 512},
    ),
    "recurrent_gemma": Architecture(
        "RecurrentGemmaConfig",
        {**SHARED_HEADS, "num_hidden_layers": 3, "head_dim": 8, "attention_window_size": 8},
    ),
    "qwen3_next": Architecture(
        "Qwen3NextConfig",
        {
            **SHARED_HEADS,
            **LINEAR,
            "layer_types": MIXED,
            "num_experts": 2,
            "num_experts_per_tok": 1,
        },
    ),
    "lfm2": Architecture("Lfm2Config", {**SHARED_HEADS, "layer_types": ["conv", "full_attention"]}),
    "bamba": Architecture("BambaConfig", {**SHARED_HEADS, **SSM, "attn_layer_indices": [1]}),
    "jamba": Architecture(
        "JambaConfig",
        {
            **SHARED_HEADS,
            **{"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2},
            **{"expert_layer_period": 2, "expert_layer_offset": 1, "use_mamba_kernels": False},
        },
    ),
    "falcon_h1": Architecture("FalconH1Config", {**SHARED_HEADS, **SSM, "mamba_d_ssm": 64}),
    "minimax": Architecture(
        "MiniMaxConfig",
        {**SHARED_HEADS, "layer_types": MIXED, "num_local_experts": 2, "head_dim": 8},
    ),
    "openai-gpt": Architecture("OpenAIGPTConfig", GPT2),
    "stablelm": Architecture("StableLmConfig", SHARED_HEADS),
    "nemotron": Architecture("NemotronConfig", SHARED_HEADS),
    "bloom": Architecture("BloomConfig", {**SIZES, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
}


# Models that leak from one example of a packed row into the next: states, convolutions, and masks
# that ignore restarting positions.
LEAKING = {
    name: UNCOMMON[name]
    for name in ("qwen3_next", "bamba", "jamba", "lfm2", "falcon_h1", "bloom", "mamba", "rwkv")
}
LEAKING |= {
    "qwen3_5": Architecture("Qwen3_5TextConfig", {**SHARED_HEADS, **LINEAR, "layer_types": MIXED}),
    "gpt_oss": Architecture("GptOssConfig", {**WINDOWED, "num_local_experts": 4}),
    "mpt": Architecture(
        "MptConfig", {**SIZES, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 512}
    ),
    "xglm": Architecture(
        "XGLMConfig",
        {**SIZES, "d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64}
        | {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0},
    ),
}
# Layers that pass no extra arguments to their attention, so lengths cannot be given.
DEAF = {name: UNCOMMON[name] for name in ("stablelm", "nemotron")}


def build(architecture: Architecture, *, spread: float) -> Any:
    """Make a model with its initial random matrices multiplied by `spread`."""
    torch.manual_seed(0)
    config = getattr(transformers, architecture.config)(**architecture.settings)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(spread)
    return model.eval()


def write_model(
    folder: Path, architecture: Architecture, *, spread: float, tokenizer: Path
) -> Path:
    """Save a model with a copy of the tokenizer of another folder."""
    build(architecture, spread=spread).save_pretrained(folder)
    for path in tokenizer.iterdir():
        if path.name.startswith(("tokenizer", "special", "chat_template")):
            shutil.copy(path, folder)
    return folder
