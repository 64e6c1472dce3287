"""Save models and tokenizers, for readers of transformers 5 and 4 alike.

Their libraries have errors of their own for a disk that fails, and version 5 of transformers writes
names that version 4 passes over without a word: it then takes its own default, and all outputs
differ (https://github.com/vllm-project/vllm/issues/42624).
"""

import copy
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ftreg.files.store import write_text


def save_pretrained(item: Any, folder: Path | str, **options: Any) -> None:
    """Save a model or tokenizer into a folder, with its settings in the words of both versions.

    Args:
        item: has transformers' `save_pretrained`.
        folder: where to; it is made.
        options: for `save_pretrained`.

    Raises:
        OSError: it cannot be written.
    """
    try:
        item.save_pretrained(folder, **options)
    except OSError:
        raise
    except Exception as error:  # tokenizers and safetensors are Rust, and raise what they like
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
        # As transformers lays it out; it writes floats that JSON does not have in words.
        text = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False)
        write_text(path, text + "\n")


def _tokenizer_settings(text: str) -> dict[str, Any]:
    """Name the class that both versions have, and the list of special tokens as version 4 does."""
    settings: dict[str, Any] = json.loads(text)
    if settings.get("tokenizer_class") == "TokenizersBackend":
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(settings.get("extra_special_tokens"), list):
        settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
    return settings


def _model_settings(text: str, kind: Any) -> dict[str, Any]:
    """Add the older names, unless this version would then read another configuration of a kind."""
    plain: dict[str, Any] = json.loads(text)
    both: dict[str, Any] = json.loads(text, object_hook=_with_older_names)
    try:  # from copies: reading changes what it is given
        expected = kind.from_dict(json.loads(text)).to_dict()
        found = kind.from_dict(copy.deepcopy(both)).to_dict()
    except Exception:  # a model's own code, which must not cost its trained weights
        return plain
    return both if _says(found, expected) else plain


def _says(found: Any, expected: Any) -> bool:
    """Whether all of `expected` is in `found`, which may have more names."""
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
    """Return rotary positions in the words of transformers 4.

    Args:
        rope: `rope_parameters`, flat or by the kind of layer.
        model_type: GPT-NeoX and Phi-3 have words of their own.
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
