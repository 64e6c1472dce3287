"""Tiny checkpoints of the exported architectures, each with a tokenizer of its kind."""

import json
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

from ftreg.deploy.vocabulary import WORD_CUTTERS
from ftreg.files.store import file_digest, write_json
from ftreg.models.save import save_pretrained
from ftreg.records.checkpoint import read_checkpoint
from ftreg.records.manifest import digest_over, seal

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOOLS = (
    "{% if tools %}<|im_start|>system\nTools:{% for t in tools %}\n{{ t | tojson }}{% endfor %}"
    "<|im_end|>\n{% endif %}" + CHATML
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m['content'] }}"
    "{{ eos_token }}{% else %}[INST] {{ m['content'] }} [/INST]{% endif %}{% endfor %}"
)
# Words, numbers, symbols, accents and other scripts, so that all kinds of texts use merges.
TEXTS = [
    "Which colour has item 12? Item 12 is blue, isn't it? We'll see 2026 of them.",
    "The quick brown fox jumps over the lazy dog; THE QUICK BROWN FOX, 1234567 times!",
    "Müßiggang ist aller Laster Anfang, naïve café. Straße 42.",
    "def add(a, b):\n    return a + b\n\n\tprint(add(1, 22))",
    "今日は良い天気ですね。 Привет, мир! 🙂🙂",
]
PROBES = [
    *TEXTS,
    "  two  spaces and\ttabs\r\n and 3.14159 or 100,000\n\n\nlines   ",
    "I'LL don't HE'S camelCaseWord snake_case ABCdef",
    "<|im_end|> stands in a text, <s> too",
    "",
]


def byte_level(cutter: str) -> Any:
    """A byte-level BPE tokenizer with llama.cpp's pre-tokenizer `cutter`."""
    raw = Tokenizer(models.BPE())
    plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if cutter == "gpt-2":
        raw.pre_tokenizer = plain
    elif cutter == "smollm":
        digits = pre_tokenizers.Digits(individual_digits=True)
        raw.pre_tokenizer = pre_tokenizers.Sequence([digits, plain])
    else:
        (expression,) = [key for key, name in WORD_CUTTERS.items() if name == cutter]
        split = pre_tokenizers.Split(Regex(expression), "isolated")
        raw.pre_tokenizer = pre_tokenizers.Sequence([split, whole])
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    raw.add_tokens([AddedToken("<tool>", special=False, normalized=False)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<|endoftext|>", eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )  # fmt: skip
    tokenizer.chat_template = CHATML
    return tokenizer


def _of_instructions(raw: Tokenizer) -> Any:
    """Give a tokenizer SentencePiece's special tokens, and Llama 2's chat template."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        pad_token="</s>",
    )  # fmt: skip
    tokenizer.chat_template = INST
    return tokenizer


def sentencepiece(*, prefix: bool) -> Any:
    """A tokenizer as transformers converts SentencePiece BPE, with or without a leading space."""
    raw = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    steps: list[Any] = [normalizers.Prepend("▁")] if prefix else []
    raw.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    special = ["<unk>", "<s>", "</s>"]
    raw.train_from_iterator(
        TEXTS[:3],
        trainers.BpeTrainer(
            vocab_size=450, special_tokens=special, show_progress=False,
            initial_alphabet=[], max_token_length=8,
        ),
    )  # fmt: skip
    settings = json.loads(raw.to_str())
    vocab = settings["model"]["vocab"]
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    settings["decoder"] = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            *([{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []),
        ],
    }
    raw = Tokenizer.from_str(json.dumps(settings))
    raw.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocab["<s>"])]
    )
    return _of_instructions(raw)


def unigram() -> Any:
    """A tokenizer with SentencePiece's unigram model, as T5 and similar models use."""
    raw = Tokenizer(models.Unigram())
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    raw.train_from_iterator(
        TEXTS,
        trainers.UnigramTrainer(
            vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
        ),
    )
    return _of_instructions(raw)


TOKENIZERS = {
    "spm": lambda: sentencepiece(prefix=True),
    "spm-bare": lambda: sentencepiece(prefix=False),
    **{name: (lambda name=name: byte_level(name)) for name in ("gpt-2", "smollm")},
    **{name: (lambda name=name: byte_level(name)) for name in WORD_CUTTERS.values()},
}


@cache
def tokenizer_of(kind: str) -> Any:
    """A tokenizer of a kind, trained once."""
    return TOKENIZERS[kind]()


SIZE = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
SIZE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
# Architecture to its configuration class, settings, and kind of tokenizer.
MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "llama": ("LlamaConfig", {"tie_word_embeddings": True, "head_dim": 16}, "smollm"),
    "llama3": ("LlamaConfig", {"rope_parameters": LLAMA3, "attention_bias": True}, "llama-bpe"),
    "mistral": ("MistralConfig", {"sliding_window": None, "head_dim": 16}, "spm"),
    "qwen2": ("Qwen2Config", {"tie_word_embeddings": True}, "qwen2"),
    "qwen3": ("Qwen3Config", {"head_dim": 16}, "qwen2"),
    "gemma": ("GemmaConfig", {"head_dim": 16}, "spm-bare"),
    "gemma2": ("Gemma2Config", {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 32}, "spm-bare"),  # noqa: E501
    "gemma3": ("Gemma3TextConfig", {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 32}, "spm-bare"),  # noqa: E501
    "phi3": ("Phi3Config", {"sliding_window": None}, "gpt-4o"),
}  # fmt: skip


def build(
    name: str,
    *,
    spread: float = 3.0,
    tokenizer: Any = None,
    rounded: bool = False,
    **changes: Any,
) -> tuple[Any, Any]:
    """Make a model with random weights scaled by `spread`, and its tokenizer or the given one.

    With `rounded`, its weights are exact in bf16, as those of most published models.
    """
    kind, settings, words = MODELS[name]
    tokenizer = tokenizer or tokenizer_of(words)
    torch.manual_seed(0)
    roles = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    roles["pad_token_id"] = tokenizer.pad_token_id
    config = getattr(transformers, kind)(
        **{**SIZE, **settings, **roles, "vocab_size": len(tokenizer), **changes}
    )
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(spread)
            else:  # norms and biases start as ones and zeros, which could hide a fault
                parameter.add_(0.2 * torch.randn_like(parameter))
            if rounded:
                parameter.copy_(parameter.bfloat16())
    model.generation_config = GenerationConfig(**roles)
    return model.eval(), tokenizer


def write_base(folder: Path, name: str, *, ends: bool = False, **changes: Any) -> Path:
    """Save a model and its tokenizer; with `ends`, it has a second end token."""
    model, tokenizer = build(name, **changes)
    if ends:
        more = [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<tool>")]
        model.generation_config.eos_token_id = more
    save_pretrained(model, folder)
    save_pretrained(tokenizer, folder)
    return folder


def as_checkpoint(folder: Path, like: Path) -> Path:
    """Give a model folder a manifest as if it had been trained like `like`."""
    old = read_checkpoint(like).manifest
    weights = {path.name: file_digest(path) for path in sorted(folder.glob("*.safetensors"))}
    files = {
        path.name: file_digest(path)
        for path in sorted(folder.iterdir())
        if path.suffix in (".json", ".jinja") and path.name != "ftreg.json"
    }
    facts = {
        **old.model_dump(mode="json"),
        "weights": {"digest": digest_over(weights), "files": weights},
        "files": files,
    }
    for key in ("identity", "created"):
        facts.pop(key)
    write_json(folder / "ftreg.json", seal(facts, created=old.created).model_dump(mode="json"))
    return folder


def copied(folder: Path, to: Path) -> Path:
    """Copy a checkpoint."""
    shutil.copytree(folder, to)
    return to


def chats() -> Iterator[list[dict[str, str]]]:
    """Yield a one-turn chat for each probe, the first with a system message."""
    for number, text in enumerate(PROBES):
        system = [{"role": "system", "content": "Be brief."}] if number == 0 else []
        yield [*system, {"role": "user", "content": text}]
