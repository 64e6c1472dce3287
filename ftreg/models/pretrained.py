"""Find a base model by its name, and load weights and tokenizer safely."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from ftreg.config import custom_code
from ftreg.config.sections import BaseConfig
from ftreg.errors import UsageError, did_you_mean, first_line
from ftreg.files.reading import LARGEST_SETTINGS, read_text
from ftreg.files.store import file_digest
from ftreg.models.adapters import merge_adapters
from ftreg.models.chat_template import GENERATION_CONFIG
from ftreg.models.packaged import PACKAGED, packaged_digest, packaged_folder
from ftreg.records.checkpoint import read_checkpoint
from ftreg.records.layout import MANIFEST
from ftreg.records.manifest import digest_over

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
# What the loaders raise for a broken or unfitting file.
_LOADING_ERRORS = (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError)
# Everything that a causal model needs, and no pickle among it.
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A base model on this machine.

    `source` is packaged, folder or hub; `revision` the hub's commit; `digest` the hex SHA-256
    over the weights; `parent` the identity of the checkpoint that the folder is, if it is one.
    """

    name: str
    source: str
    folder: Path
    revision: str | None
    digest: str
    parent: str | None
    trust_remote_code: bool


def find_base(config: BaseConfig) -> BaseModel:
    """Resolve `base.model`: a packaged model, a folder, or a hub id, in this order.

    Raises:
        UsageError: the name is none of them, the model is not pulled, or the hub cannot be reached.
    """
    name = config.model
    local = name in PACKAGED or Path(name).is_dir()
    if local and config.revision is not None:
        raise UsageError(f"base.revision: {name} is not a hub id, so it has no revisions")
    if name in PACKAGED:
        if PACKAGED[name].kind != "base model":
            raise UsageError(f"base.model: {name} is an {PACKAGED[name].kind}, not a base model")
        return _found(config, "packaged", packaged_folder(name), packaged_digest(name))
    folder = Path(name)
    if folder.is_dir():
        checked: dict[str, str] = {}
        if (folder / MANIFEST).is_file():
            checkpoint = read_checkpoint(folder)
            checkpoint.verify()  # what is trained on it names it as its parent
            checked = checkpoint.manifest.weights.files
        return _found(config, "folder", folder, weights_digest(folder, checked=checked))
    if len(folder.parts) > 1 and Path(folder.parts[0]).exists():
        raise UsageError(f"base.model: there is no folder {name}")
    if _HUB_ID.fullmatch(name):
        folder = _download(config)
        return _found(config, "hub", folder, weights_digest(folder))
    raise UsageError(
        f"base.model: {name!r} is neither a packaged model ({', '.join(PACKAGED)}), nor a folder, "
        f"nor a hub id of the form org/name{did_you_mean(name, PACKAGED)}"
    )


def _found(config: BaseConfig, source: str, folder: Path, weights: str) -> BaseModel:
    parent = None
    if (folder / MANIFEST).is_file():
        parent = read_checkpoint(folder).manifest.identity
    return BaseModel(
        name=config.model,
        source=source,
        folder=folder,
        revision=folder.name if source == "hub" else None,
        digest=weights,
        parent=parent,
        trust_remote_code=config.trust_remote_code,
    )


def _download(config: BaseConfig) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [*_HUB_FILES, "*.py"] if config.trust_remote_code else _HUB_FILES
    try:
        return Path(
            snapshot_download(config.model, revision=config.revision, allow_patterns=patterns)
        )
    except Exception as error:  # the hub client raises a family of errors of three libraries
        raise UsageError(
            f"base.model: cannot get {config.model} from the hub: {type(error).__name__}: "
            f"{str(error).splitlines()[0]}\nUse a folder or a packaged model where there is no "
            f"network (packaged: {', '.join(PACKAGED)})."
        ) from error


def weights_digest(folder: Path, *, checked: Mapping[str, str] | None = None) -> str:
    """Return one hex SHA-256 over a folder's safetensors files (the file's own if it is one).

    Args:
        folder: with the weights.
        checked: digests by name of files that need not be read, having been so just now.

    Raises:
        UsageError: the folder holds no safetensors.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UsageError(
            f"{folder}: no *.safetensors file; other formats can run code when they are loaded"
        )
    known = checked or {}
    return digest_over({path.name: known.get(path.name) or file_digest(path) for path in files})


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Load a tokenizer that can write chats.

    Raises:
        UsageError: no tokenizer, no chat template, or no token that ends an answer.
    """
    _refuse_forbidden_code(folder, trust_remote_code)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
    except _LOADING_ERRORS as error:
        raise UsageError(f"{folder}: cannot load the tokenizer: {first_line(error)}") from error
    if not tokenizer.chat_template:
        raise UsageError(
            f"{folder}: the tokenizer has no chat template; put a chat_template.jinja into the "
            "folder (an instruction-tuned variant of the model usually has one)"
        )
    if tokenizer.eos_token_id is None:
        raise UsageError(f"{folder}: the tokenizer has no end-of-sequence token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # only ever used under an attention mask
    return tokenizer


def load_model(
    folder: Path, *, dtype: torch.dtype = torch.float32, trust_remote_code: bool = False
) -> PreTrainedModel:
    """Load a causal language model from safetensors, in evaluation mode.

    Raises:
        UsageError: the folder is not a causal language model.
    """
    transformers_logging.disable_progress_bar()
    _refuse_forbidden_code(folder, trust_remote_code)
    _refuse_kernels(folder)
    if (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{folder}: these are adapters, not a whole model; train from the base model that they "
            "belong to, or merge them first"
        )
    model: PreTrainedModel
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
        )
    except _LOADING_ERRORS as error:
        raise UsageError(f"{folder}: cannot load the model: {first_line(error)}") from error
    # transformers fills what is missing with random numbers, and says so in a log.
    for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        names = sorted(map(str, found.get(kind) or ()))
        if names:
            raise UsageError(
                f"{folder}: the weights do not fit config.json: {len(names)} "
                f"{kind.replace('_', ' ')}, such as {names[0]}"
            )
    return model.eval()


def _refuse_forbidden_code(folder: Path, trusted: bool) -> None:
    if trusted:
        custom_code.refuse("the code in this model's folder", place=f"{folder}: trust_remote_code")


def _refuse_kernels(folder: Path) -> None:
    """Refuse a configuration that has compiled kernels fetched from the hub, which are code too."""
    path = folder / "config.json"
    if not path.exists():
        return  # for the loader to say
    text = read_text(path, most=LARGEST_SETTINGS, kind="model configuration")
    try:
        # As transformers reads it. What `parse_json` refuses besides is in files of models, such as
        # Infinity, and must not lead past the check.
        config = json.loads(text)
    except (ValueError, RecursionError):
        return  # for the loader to say
    for key, value in config.items() if isinstance(config, dict) else ():
        names = value.values() if isinstance(value, dict) else [value]
        if "attn_implementation" in key and any("/" in str(name) for name in names):
            raise UsageError(
                f"{path}: {key}: {value!r} is a kernel of the hub, which is code "
                "from elsewhere; take the key out, and the model runs on torch's own attention"
            )


def load_checkpoint_model(folder: Path, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load a checkpoint for generation; adapters are merged into their base model.

    Raises:
        UsageError: the base of an adapter is not here, or has other weights than it was
            trained on.
    """
    manifest = read_checkpoint(folder).manifest
    if manifest.lora is None:
        return load_model(folder, dtype=dtype, trust_remote_code=manifest.base.trust_remote_code)
    config = manifest.config.base
    if manifest.base.source == "hub":
        # The branch may have moved since; the commit that it was trained on is recorded.
        config = config.model_copy(update={"revision": manifest.base.revision})
    base = find_base(config)
    if base.digest != manifest.base.digest:
        raise UsageError(
            f"{folder}: this adapter was trained on {manifest.base.model} with weights "
            f"{manifest.base.digest[:12]}..., and here they are {base.digest[:12]}..."
        )
    model = load_model(base.folder, dtype=dtype, trust_remote_code=base.trust_remote_code)
    try:
        if (folder / GENERATION_CONFIG).is_file():  # what ends an output, as training had it
            model.generation_config = GenerationConfig.from_pretrained(folder)
        return merge_adapters(model, folder).eval()
    except _LOADING_ERRORS as error:
        raise UsageError(f"{folder}: cannot load the adapters: {first_line(error)}") from error
