"""Refuse what cannot be used as a causal language model, before any work is done with it."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import PreTrainedModel

from ftreg.errors import FtregError, UsageError, first_line
from ftreg.files.reading import LARGEST_SETTINGS, read_text
from ftreg.process import is_out_of_memory, signal_came

# Tolerances, as shares of the logits' standard deviation. Rows of a batch may be rounded slightly
# differently; a later token changes an encoder's logits a hundred times more, even untrained.
_SEEN = {torch.float32: 1e-4}
_SEEN_ROUNDED = 3e-2
_TOKENS = 12
OF_THE_WRITER = ("transformers_version", "_name_or_path")
"""Settings that describe how a file was written, not the model."""
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


@contextlib.contextmanager
def told_as(text: str) -> Iterator[None]:
    """Turn any error of a library into one message: `text`, and the first line of the cause.

    Libraries that read models raise all kinds of errors; those in Rust also panic, which is not an
    `Exception` in Python.

    Raises:
        UsageError: the block raised. Interruptions, out-of-memory errors and ftreg's own errors
            pass through unchanged.
    """
    try:
        yield
    except (FtregError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        if is_out_of_memory(error) or signal_came():
            raise
        raise UsageError(f"{text}: {first_line(error)}") from error


def settings_of(path: Path) -> dict[str, Any]:
    """Return a model's settings from a JSON file; empty if it is missing or not a JSON object.

    Raises:
        UsageError: it is too large, or not text.
    """
    if not path.exists():
        return {}
    text = read_text(path, most=LARGEST_SETTINGS, kind="model configuration")
    try:
        # As transformers reads it. Model files contain values that `parse_json` refuses, such as
        # Infinity, and these must not bypass a check.
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}  # the loader reports it
    return found if isinstance(found, dict) else {}


def refuse_more_layers_than_tensors(folder: Path) -> None:
    """Refuse a configuration with more layers than the weights have tensors.

    transformers would build them all, for hours, before it looks at the weights.

    Raises:
        UsageError: it has more, or the weights cannot be read.
    """
    path = folder / "config.json"
    config = settings_of(path)
    with told_as(f"{folder}: cannot load the model"):
        tensors = sum(map(_tensors, folder.glob("*.safetensors")))
    for part in (config, *config.values()):
        for key in _LAYERS if isinstance(part, dict) else ():
            if isinstance(part.get(key), int | float) and not part[key] <= tensors:  # or NaN
                raise UsageError(
                    f"{path}: {key} is {part[key]}, and the weights have {tensors} tensors in all; "
                    "this is not the configuration of these weights"
                )


def _tensors(file: Path) -> int:
    with safe_open(file, framework="pt") as opened:
        return len(opened.keys())


@torch.no_grad()
def refuse_unsound(model: PreTrainedModel, folder: Path) -> None:
    """Refuse a model whose forward pass fails, gives NaN, or sees the tokens it should predict.

    Two rows that differ only in their last token must get the same logits before it. An encoder,
    such as BERT, gives different ones: its input contains the targets of training.

    Args:
        model: in evaluation mode.
        folder: its source, for messages.

    Raises:
        UsageError: any of these is the case.
    """
    name = type(model).__name__
    with told_as(f"{folder}: {name} cannot take a text; see its config.json"):
        rows, context = vocabulary_of(model), context_of(model) or _TOKENS
        tokens = torch.arange(min(_TOKENS, context), device=model.device).mul(7).remainder(rows)
        tokens = tokens.repeat(2, 1)
        tokens[1, -1] = (tokens[0, -1] + 1) % rows
        logits = model(input_ids=tokens, use_cache=False).logits.float()
    if logits.isnan().any():
        raise UsageError(
            f"{folder}: {name} gives numbers that are not finite (nan) for a plain text; look for "
            "them in its config.json and its weights"
        )
    first, second = logits[:, :-1]
    seen = (first - second).abs().max().item()
    if seen > _SEEN.get(model.dtype, _SEEN_ROUNDED) * first.std().item():
        raise UsageError(
            f"{folder}: {name} is not a causal language model: what it predicts depends on tokens "
            "that come later, as in an encoder. Take a model that is made to generate text"
        )


def vocabulary_of(model: PreTrainedModel) -> int:
    """Return the number of tokens that a model has embeddings for."""
    embedding: Any = model.get_input_embeddings()
    rows = getattr(embedding, "num_embeddings", None) or embedding.weight.shape[0]
    return int(rows)


def context_of(model: PreTrainedModel) -> int | None:
    """Return the most tokens that a model takes; None if its configuration sets no limit."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return limit if isinstance(limit, int) and limit > 0 else None


def refuse_larger_tokenizer(model: PreTrainedModel, tokenizer: Any, *, largest: int) -> None:
    """Refuse a tokenizer with tokens for which a model has no embedding.

    Some base models have more special tokens than embeddings, for images or audio that this model
    does not take; these are allowed as long as no text contains them.

    Args:
        model: reads the texts.
        tokenizer: of the model's folder.
        largest: the largest token id in all texts.

    Raises:
        UsageError: a token of a text, or one that is not special, has no embedding.
    """
    rows = vocabulary_of(model)
    if max(len(tokenizer), largest + 1) <= rows:
        return
    special = {n for n, token in tokenizer.added_tokens_decoder.items() if token.special}
    plain = max((n for n in tokenizer.get_vocab().values() if n not in special), default=0)
    if max(largest, plain) >= rows:
        token = tokenizer.convert_ids_to_tokens(largest if largest >= rows else plain)
        raise UsageError(
            f"{tokenizer.name_or_path}: the tokenizer has {len(tokenizer)} tokens and the model "
            f"embeds {rows}, not {token!r}; they do not belong together. Use the model's own "
            "tokenizer and chat template, or resize the embeddings"
        )
