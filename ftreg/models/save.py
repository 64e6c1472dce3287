"""Save models and tokenizers so that both transformers 4 and 5 can read them.

transformers 5 writes settings under names that version 4 silently ignores: it then uses its
defaults, and all outputs differ (https://github.com/vllm-project/vllm/issues/42624). Disk errors,
for which the libraries have their own types, become `OSError`.
"""

import copy
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ftreg.files.store import write_text


def save_pretrained(item: Any, folder: Path | str, **options: Any) -> None:
    """Save a model or tokenizer into a folder, with its settings under the names of both versions.

    Args:
        item: has transformers' `save_pretrained`.
        folder: where to save; created if missing.
        options: passed on to `save_pretrained`.

    Raises:
        OSError: writing fails.
    """
    try:
        item.save_pretrained(folder, **options)
    except OSError:
        raise
    except Exception as error:  # tokenizers and safetensors, in Rust, have their own types
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), str(error), str(folder)) from error
    _rewrite(Path(folder, "tokenizer_config.json"), _tokenizer_settings)
    if hasattr(item, "config"):
        _rewrite(Path(folder, "config.json"), lambda text: _model_settings(text, type(item.config)))


def _rewrite(path: Path, change: Callable[[str], Any]) -> None:
    if path.is_file():
        settings = change(path.read_text(encoding="utf-8"))
        # Formatted as by transformers, which spells out floats that JSON lacks, such as Infinity.
        text = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False)
        write_text(path, text + "\n")


def _tokenizer_settings(text: str) -> dict[str, Any]:
    """Use the class that both versions have, and version 4's name for extra special tokens."""
    settings: dict[str, Any] = json.loads(text)
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(settings.get("extra_special_tokens"), list):
        settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
    return settings


def _model_settings(text: str, kind: Any) -> dict[str, Any]:
    """Add the older names, unless `kind` of this version would then read another configuration."""
    plain: dict[str, Any] = json.loads(text)
    both: dict[str, Any] = json.loads(text, object_hook=_with_older_names)
    try:  # from copies: `from_dict` changes its argument
        expected = kind.from_dict(json.loads(text)).to_dict()
        found = kind.from_dict(copy.deepcopy(both)).to_dict()
    except Exception:  # a model's custom code, which must not prevent saving
        return plain
    return both if _says(found, expected) else plain


def _says(found: Any, expected: Any) -> bool:
    """Whether `found` contains all of `expected`; it may have more keys."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return all(_says(found.get(key), value) for key, value in expected.items())
    return bool(found == expected)


def _with_older_names(settings: dict[str, Any]) -> dict[str, Any]:
    older: dict[str, Any] = {}
    if isinstance(settings.get("dtype"), str):
        older["torch_dtype"] = settings["dtype"]
    if "num_local_experts" in settings:  # Qwen's
        older["num_experts"] = settings["num_local_experts"]
    if isinstance(settings.get("rope_parameters"), dict):
        older |= _older_rope(settings["rope_parameters"], str(settings.get("model_type")))
    return older | settings


def _older_rope(rope: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    """Return rotary position settings under the names of transformers 4.

    Args:
        rope: `rope_parameters`, flat or by layer type.
        model_type: GPT-NeoX and Phi-3 have their own names.
    """
    older: dict[str, Any] = {}
    if isinstance(rope.get("full_attention"), Mapping):
        older["rope_local_base_freq"] = (rope.get("sliding_attention") or {}).get("rope_theta")
        rope = rope["full_attention"]
    scaling = dict(rope)
    theta, share = scaling.pop("rope_theta", None), scaling.pop("partial_rotary_factor", None)
    if model_type.startswith("gpt_neox"):
        older |= {"rotary_emb_base": theta, "rotary_pct": share}
    else:
        older |= {"rope_theta": theta, "partial_rotary_factor": share}
    kind = scaling.get("rope_type", "default")
    if kind == "longrope" and model_type.startswith("phi"):
        older["rope_scaling"] = {
            "type": kind,
            "short_factor": scaling.get("short_factor"),
            "long_factor": scaling.get("long_factor"),
        }
    elif kind != "default":
        older["rope_scaling"] = scaling
    return {key: value for key, value in older.items() if value is not None}
