"""A small twin of a model: its configuration, narrower and shallower, with random weights.

The twin shows in milliseconds, without the model's weights, whether a way of computing works for an
architecture: which layers there are, what they attend to, where positions come from.
"""

import importlib.metadata
import json
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from ftreg.errors import first_line
from ftreg.files.cache.table import Table
from ftreg.files.store import digest

WINDOW = 8
"""Most tokens in a twin's sliding windows and chunks, so that short prompts exceed them."""
VOCABULARY = 256
"""Largest vocabulary of a twin, in tokens; smaller token ids are safe inputs."""
_LARGEST = 200_000_000
_WIDTH = 64
_EXPERTS = 4
_GAIN = 2.0
_FAINT = 8.0
_NOISE = 0.02

# Keys of configurations, by how they are reduced. The width of a head stays, and with it what
# depends on it: rotary factors, norms of heads.
_LAYERS = re.compile(
    r"(n|num|decoder|encoder|num_(hidden|encoder|decoder))_?layers?|depth|num_blocks"
)
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads")
_SHARED = ("num_key_value_heads", "num_kv_heads", "kv_n_heads", "num_query_groups")
_HIDDEN = ("hidden_size", "n_embd", "d_model", "embed_dim", "emb_dim", "embedding_dim")
_ACROSS = re.compile(
    r".*(hidden_size|n_embd|d_model|d_inner|lru_width|d_ssm|embed_dim|emb_dim|embedding_dim"
    r"|embedding_size|proj_dim"
    r"|n_(\w+_)?heads?|num(_\w+)?_heads|attention_heads|n_?groups)"
)
_FEW = {
    re.compile(pattern): most
    for pattern, most in {
        r".*window(_size|_len)?|attention_chunk_size": WINDOW,
        r".*(intermediate_size|ffn_dim|n_inner|d_ff|feed_forward_size)|ffn_\w*size": _WIDTH,
        r".*vocab_size\w*": VOCABULARY,
        r"(n_routed|num|num_local|moe_num)_experts": _EXPERTS,
        r"num_experts_per_tok(en)?|moe_topk|moe_top_k|moe_k": 2,
        r"n_group|topk_group|num_expert_group": 1,
    }.items()
}
# Settings that do not affect how a model computes.
_NO_SHAPE = ("architectures", "dtype", "torch_dtype", "transformers_version")
_TOKEN = re.compile(r".*_token_(id|index)")


class NoTwinError(ValueError):
    """No small model can be made from a configuration; the message says why."""


def twin_of(config: PretrainedConfig, *, kind: type[PreTrainedModel] | None = None) -> Any:
    """Make the twin of a model: fp32, on the CPU, in evaluation mode, deterministic.

    It has the first layers that cover every sort of layer, at least two. Head counts and the widths
    across heads shrink by one factor, so that divisibility is preserved. Windows are short
    (`WINDOW`). The weights are scaled so that outputs depend on every earlier token. torch's random
    state is left unchanged.

    Args:
        config: the model's; not changed.
        kind: the model's class, if the configuration comes with custom code.

    Raises:
        NoTwinError: it is not a causal model that transformers can build, or its twin would have
            more than 200 million weights.
    """
    try:
        settings = _narrow(config.to_dict())
        layers = _layers_needed(_built(_config(config, settings), kind, "meta"))
        shallow = _config(config, _shallow(settings, layers))
        size = sum(part.numel() for part in _built(shallow, kind, "meta").parameters())
        if size > _LARGEST:
            raise NoTwinError(f"the smallest model of its shape has {size:,} weights")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            twin = _built(shallow, kind, "cpu").float().eval()
            _spread(twin)
    except NoTwinError:
        raise
    except Exception as error:  # architectures raise all kinds of errors
        raise NoTwinError(
            f"no small {config.model_type}: {type(error).__name__}: {first_line(error)}"
        ) from error
    return twin


def proven_on_twin(
    model: PreTrainedModel, question: Mapping[str, Any], prove: Callable[[], str]
) -> str:
    """Return the result of a test on a model's twin, cached.

    The cache key is the model's configuration, class, attention and device type, the CPU's
    capability, the versions of torch and transformers, and the question. For a class outside
    transformers the test always runs: the name does not identify the code.

    Args:
        model: whose twin is tested.
        question: JSON-ready; everything else that the result depends on.
        prove: runs the test and returns its result.
    """
    kind, shape = type(model), model.config.to_dict()
    identity = {
        "question": question,
        "libraries": {name: importlib.metadata.version(name) for name in ("torch", "transformers")},
        "device": model.device.type,
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "attention": model.config._attn_implementation,
        "shape": json.dumps(
            {k: v for k, v in shape.items() if k[0] != "_" and k not in _NO_SHAPE},
            sort_keys=True,
            default=str,
        ),
    }
    if not kind.__module__.startswith("transformers."):
        return prove()
    table = Table("ways", digest(identity))
    kept = table.get_many(["twin"])
    if not kept:
        kept = {"twin": prove().encode()}
        table.put_many(kept)
    return kept["twin"].decode()


def _config(like: PretrainedConfig, settings: Mapping[str, Any]) -> PretrainedConfig:
    made: PretrainedConfig = type(like).from_dict(dict(settings))
    made._attn_implementation = like._attn_implementation
    return made


def _built(config: PretrainedConfig, kind: type[PreTrainedModel] | None, device: str) -> Any:
    with torch.device(device):
        if kind is not None:
            return kind._from_config(config, dtype=torch.float32)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def _narrow(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration's settings, nested ones too, with few heads."""
    ratio = _ratio(settings)
    shared = _first(settings, _SHARED)

    def smaller(key: str, value: Any) -> Any:
        if isinstance(value, dict):
            return _narrow(value)
        if isinstance(value, list):
            return [smaller(key, item) for item in value]
        if type(value) is not int or value <= 0:
            return value
        if _TOKEN.fullmatch(key):
            return min(value, VOCABULARY - 1)
        for pattern, most in _FEW.items():
            if pattern.fullmatch(key):
                return min(value, most)
        return _across(value, ratio) if _ACROSS.fullmatch(key) else value

    found = {key: smaller(key, value) for key, value in settings.items()}
    return found | {key: min(shared, 2) for key in _SHARED if type(settings.get(key)) is int}


def _first(settings: Mapping[str, Any], names: tuple[str, ...]) -> int:
    return next((settings[name] for name in names if type(settings.get(name)) is int), 0)


def _across(value: int, ratio: Fraction) -> int:
    exact = value * ratio
    if exact.denominator == 1 or value < _WIDTH:
        return max(round(exact), 1)
    return max(round(exact / 16), 1) * 16  # kernels need multiples of 16


def _ratio(settings: Mapping[str, Any]) -> Fraction:
    """Return the factor for head counts and widths: two heads, or two per group if they share."""
    heads, shared = _first(settings, _HEADS), _first(settings, _SHARED)
    if not heads:
        return Fraction(_WIDTH, max(_first(settings, _HIDDEN), _WIDTH))
    groups = min(shared or heads, 2)
    return Fraction(min(groups * (2 if 0 < shared < heads else 1), heads), heads)


def _layers_needed(model: nn.Module) -> int:
    """Return how many of the first layers cover every sort of layer, at least two."""
    most = 2
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            sorts = [_sort_of(layer) for layer in module]
            most = max(most, *(sorts.index(sort) + 1 for sort in sorts), 0)
    return most


def _sort_of(layer: nn.Module) -> list[Any]:
    """Return what identifies a sort of layer: its modules and their attributes."""
    return [
        (name, type(part).__name__, {k: _plain(v) for k, v in vars(part).items() if k[0] != "_"})
        for name, part in layer.named_modules()
    ]


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool | str) else type(value).__name__


def _shallow(settings: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """Return settings with at most this many layers, nested ones too."""
    depths = {v for k, v in settings.items() if type(v) is int and _LAYERS.fullmatch(k)}
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            kept = {k: v for k, v in value.items() if not str(k).isdigit() or int(k) < layers}
            found[key] = _shallow(kept, layers)
        elif type(value) is int and _LAYERS.fullmatch(key):
            found[key] = min(value, layers)
        elif isinstance(value, list) and len(value) in depths:
            found[key] = value[:layers]
        else:
            found[key] = value
    if found.get("num_kv_shared_layers"):  # counted from the end
        own = settings["num_hidden_layers"] - found["num_kv_shared_layers"]
        found["num_kv_shared_layers"] = max(found["num_hidden_layers"] - own, 0)
    if "attention_types" in found and "attention_layers" in found:  # GPT-Neo stores it twice
        found["attention_types"] = [[found["attention_layers"], 1]]
    return found


def _spread(model: nn.Module) -> None:
    """Scale up small initial weights, so that each layer's output is as large as its input."""
    with torch.no_grad():
        for weight in model.parameters():
            spread = weight.std(correction=0).item() if weight.numel() else 1.0
            around_zero = abs(weight.mean().item()) < spread
            if weight.dim() < 2 or spread == 0:
                weight.add_(torch.randn(weight.shape), alpha=_NOISE)
            elif around_zero and spread < 0.1:
                weight.mul_(_GAIN * weight.shape[-1] ** -0.5 / spread)
        for module in model.modules():
            if isinstance(module, nn.Embedding):  # else a tied head's outputs repeat the input
                module.weight.div_(_FAINT)
