"""Find a base model by name, and load its weights and tokenizer safely."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from ftreg.config import custom_code
from ftreg.config.sections import BaseConfig
from ftreg.errors import UsageError, did_you_mean, shown
from ftreg.files.store import digest, file_digest
from ftreg.models.adapters import add_adapters
from ftreg.models.chat_template import GENERATION_CONFIG
from ftreg.models.packaged import PACKAGED, packaged_digest, packaged_folder
from ftreg.models.quantize import quantized
from ftreg.models.soundness import (
    OF_THE_WRITER,
    refuse_more_layers_than_tensors,
    refuse_unsound,
    settings_of,
    told_as,
)
from ftreg.records.checkpoint import (
    ModelFolder,
    States,
    read_checkpoint,
    refuse_changed_since,
    states_of,
)
from ftreg.records.layout import MANIFEST
from ftreg.records.manifest import digest_over
from ftreg.services.hub import why_not_given

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_WAY_TO_BASE = "say where it is: `ftreg eval CHECKPOINT -s base.model=FOLDER`"
_TOKENIZER_FILES = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt"),
    *("*.model", "chat_template*", "additional_chat_templates/*"),
)
# Everything that a causal model needs, and no pickles.
_HUB_FILES = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """A base model on this machine.

    `source` is packaged, folder or hub; `revision` the hub commit; `digest` the hex SHA-256 of the
    weights; `configuration` and `tokenizer` are digests too, None for a packaged model; `parent` is
    the identity of the checkpoint if the folder is one; `quantization` as configured; `states` are
    the files' states from before they were hashed.
    """

    name: str
    source: str
    folder: Path
    revision: str | None
    digest: str
    configuration: str | None
    tokenizer: str | None
    parent: str | None
    trust_remote_code: bool
    quantization: str | None
    states: States


def find_base(config: BaseConfig) -> BaseModel:
    """Resolve `base.model`: a packaged model, a folder, or a hub id, in this order.

    Raises:
        UsageError: the name is none of them, the model is not pulled, the hub cannot be reached, or
            a local model has a revision configured.
    """
    name = config.model
    local = name in PACKAGED or Path(name).is_dir()
    if local and config.revision is not None:
        raise UsageError(f"base.revision: {name} is not a hub id, so it has no revisions")
    if name in PACKAGED:
        if PACKAGED[name].kind != "base model":
            raise UsageError(f"base.model: {name} is an {PACKAGED[name].kind}, not a base model")
        return _found(config, "packaged", packaged_folder(name))
    folder = Path(name)
    if folder.is_dir():
        return _found(config, "folder", folder)
    if len(folder.parts) > 1 and Path(folder.parts[0]).exists():
        raise UsageError(f"base.model: there is no folder {name}")
    if _HUB_ID.fullmatch(name):
        return _found(config, "hub", _download(config))
    raise UsageError(
        f"base.model: {name!r} is neither a packaged model ({', '.join(PACKAGED)}), nor a folder, "
        f"nor a hub id of the form org/name{did_you_mean(name, PACKAGED)}"
    )


def _found(config: BaseConfig, source: str, folder: Path) -> BaseModel:
    states, parent = states_of(folder), None
    checked: dict[str, str] = {}
    if (folder / MANIFEST).is_file():
        checkpoint = read_checkpoint(folder)
        parent = checkpoint.manifest.identity
        if source == "folder":
            checkpoint.verify()  # models trained on it record it as their parent
            checked = checkpoint.manifest.weights.files
    packaged = source == "packaged"
    weights = packaged_digest(config.model) if packaged else weights_digest(folder, checked=checked)
    return BaseModel(
        name=config.model,
        source=source,
        folder=folder,
        revision=folder.name if source == "hub" else None,
        digest=weights,
        configuration=None if packaged else configuration_digest(folder),
        tokenizer=None if packaged else _tokenizer_digest(folder),
        parent=parent,
        trust_remote_code=config.trust_remote_code,
        quantization=config.quantization,
        states=states,
    )


def _download(config: BaseConfig) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [*_HUB_FILES, "*.py"] if config.trust_remote_code else _HUB_FILES
    try:
        return Path(
            snapshot_download(config.model, revision=config.revision, allow_patterns=patterns)
        )
    except Exception as error:  # the hub client raises errors of three libraries
        bases = ", ".join(name for name, model in PACKAGED.items() if model.kind == "base model")
        way_out = f"\nUse a folder or a packaged model where there is no network ({bases})."
        why = why_not_given(error, config.model, revision=config.revision, network=way_out)
        raise UsageError(f"base.model: cannot get {config.model} from the hub: {why}") from error


def weights_digest(folder: Path, *, checked: Mapping[str, str] | None = None) -> str:
    """Return one hex SHA-256 over a folder's safetensors files (a single file's own digest).

    Args:
        folder: contains the weights.
        checked: digests by name of files that were just hashed and need not be read again.

    Raises:
        UsageError: the folder contains no safetensors.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UsageError(
            f"{folder}: no *.safetensors file; other formats can run code when they are loaded"
        )
    known = checked or {}
    return digest_over({path.name: known.get(path.name) or file_digest(path) for path in files})


def configuration_digest(folder: Path) -> str:
    """Return the hex digest of a model's settings, without those in `OF_THE_WRITER`."""
    found = {}
    for name in ("config.json", GENERATION_CONFIG):
        if (folder / name).is_file():
            settings = settings_of(folder / name)
            said = {k: v for k, v in settings.items() if k not in OF_THE_WRITER}
            found[name] = json.dumps(said, sort_keys=True)
    return digest(found)


def _tokenizer_digest(folder: Path) -> str:
    files = {path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern)}
    return digest(
        {path.relative_to(folder).as_posix(): file_digest(path) for path in files if path.is_file()}
    )


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Load a tokenizer with a chat template.

    Raises:
        UsageError: there is no tokenizer, no chat template, or no end-of-sequence token.
    """
    _refuse_forbidden_code(folder, trust_remote_code)
    _refuse_unread(folder)
    if (folder / "config.json").is_file():  # the tokenizer's loader reads it too
        with told_as(f"{folder / 'config.json'}: cannot interpret it"):
            AutoConfig.from_pretrained(
                folder, trust_remote_code=trust_remote_code, local_files_only=True
            )
    with told_as(f"{folder}: cannot load the tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(
            folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
    if not tokenizer.chat_template:
        raise UsageError(
            f"{folder}: the tokenizer has no chat template; put a chat_template.jinja into the "
            "folder (an instruction-tuned variant of the model usually has one)"
        )
    if tokenizer.eos_token_id is None:
        raise UsageError(f"{folder}: the tokenizer has no end-of-sequence token")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # always masked out
    return tokenizer


def load_model(
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    trust_remote_code: bool = False,
    quantization: str | None = None,
) -> PreTrainedModel:
    """Load a causal language model from safetensors, in evaluation mode.

    Args:
        folder: contains the weights.
        dtype: of the weights that are not quantized.
        trust_remote_code: whether code in the folder may run.
        quantization: `4bit`, `8bit` or None, as `base.quantization`.

    Raises:
        UsageError: the folder is not a whole causal language model, weights and configuration do
            not match, or this machine cannot quantize it.
    """
    transformers_logging.disable_progress_bar()
    _refuse_forbidden_code(folder, trust_remote_code)
    _refuse_unread(folder)
    _refuse_kernels(folder)
    if (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{folder}: these are adapters, not a whole model; train from the base model that they "
            "belong to, or merge them first"
        )
    refuse_more_layers_than_tensors(folder)
    model: PreTrainedModel
    with told_as(f"{folder}: cannot load the model"):
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
            **(quantized(quantization) if quantization else {}),
        )
    # transformers fills in missing weights with random numbers, and only logs it.
    for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        names = sorted(map(str, found.get(kind) or ()))
        if names:
            raise UsageError(
                f"{folder}: the weights do not fit config.json: {len(names)} "
                f"{kind.replace('_', ' ')}, such as {names[0]}"
            )
    _take_from_disk(model)
    refuse_unsound(model.eval(), folder)
    return model


def _take_from_disk(model: PreTrainedModel) -> None:
    """Copy memory-mapped weights: a write to their file would change the model."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu":  # on a GPU they already are copies
            tensor.data = tensor.data.clone()


def load_base(base: BaseModel, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Load a base model, quantized if configured; see `load_model`.

    Raises:
        UsageError: as `load_model`; or its files have changed since it was found.
    """
    model = load_model(
        base.folder,
        dtype=dtype,
        trust_remote_code=base.trust_remote_code,
        quantization=base.quantization,
    )
    refuse_changed_since(base.folder, base.states)
    return model


def _refuse_unread(folder: Path) -> None:
    """Refuse a folder from which other files would be loaded than those that were hashed.

    Raises:
        UsageError: a file is a pipe or a device, on which a loader would block; or settings name
            weights outside the folder, or in another format.
    """
    for path in (*folder.glob("*"), *folder.glob("*/*")):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UsageError(f"{path}: this is not a regular file; put the file itself there")
    for path in (folder / "config.json", *folder.glob("*.index.json")):
        settings = settings_of(path)
        places = settings.get("weight_map")
        named = places.values() if isinstance(places, dict) else ()
        for name in filter(None, (*named, settings.get("transformers_weights"))):
            if not (isinstance(name, str) and re.fullmatch(r"[^/\\]+\.safetensors", name)):
                raise UsageError(
                    f"{path}: names the weights {shown(name)}; they have to be safetensors files "
                    "that lie in this folder"
                )


def _refuse_forbidden_code(folder: Path, trusted: bool) -> None:
    if trusted:
        custom_code.refuse("the code in this model's folder", place=f"{folder}: trust_remote_code")


def _refuse_kernels(folder: Path) -> None:
    """Refuse a configuration that fetches compiled kernels from the hub, which are code too."""
    path = folder / "config.json"
    for key, value in settings_of(path).items():
        names = value.values() if isinstance(value, dict) else [value]
        if "attn_implementation" in key and any("/" in str(name) for name in names):
            raise UsageError(
                f"{path}: {key}: {value!r} is a kernel of the hub, which is code "
                "from elsewhere; remove the key, and the model runs on torch's own attention"
            )


def find_base_of(checkpoint: ModelFolder) -> BaseModel:
    """Find the base model of a checkpoint's adapters, even if both have moved.

    Raises:
        UsageError: it is not found, or is not the one that they were trained on.
    """
    recorded, config = checkpoint.manifest.base, checkpoint.manifest.base_config
    if recorded.source == "hub":
        # Use the recorded commit: the branch may have moved since training.
        config = config.model_copy(update={"revision": recorded.revision})
    choices = [config]
    if checkpoint.base is not None or recorded.source == "folder":
        choices = [
            config.model_copy(update={"model": str(place), "revision": None})
            for place in places_of_base(checkpoint)
        ]
    problem = (
        f"{checkpoint.folder}: the base model of these adapters, {recorded.model} (weights "
        f"{recorded.digest[:12]}...), is not here; {_WAY_TO_BASE}"
    )
    for number, choice in enumerate(choices):
        try:
            found = find_base(choice)
        except UsageError as error:
            problem = problem if number else str(error)
            continue
        if found.digest == recorded.digest:
            _refuse_changed(checkpoint, found.folder)
            return found
        problem = (
            f"{checkpoint.folder}: this adapter was trained on {recorded.model} with weights "
            f"{recorded.digest[:12]}..., and here ({found.folder}) they are "
            f"{found.digest[:12]}...; {_WAY_TO_BASE}"
        )
    raise UsageError(problem)


def places_of_base(checkpoint: ModelFolder) -> list[Path]:
    """Return folders that may be the base model of adapters.

    These are the folder that the user gave, then the recorded path, relative to the working
    directory and to each parent of the adapters' folder.

    Raises:
        UsageError: all of them have another configuration than the adapters were trained with.
    """
    base, own = checkpoint.manifest.base, checkpoint.folder.resolve()
    model = Path(base.model)
    places = [*([Path(checkpoint.base)] if checkpoint.base else []), model]
    if not base.trust_remote_code:  # a search must not decide whose code runs
        places += [way for folder in own.parents for way in (folder / model, folder / model.name)]
    found = [
        place
        for place in dict.fromkeys(place.resolve() for place in places)
        if (place / "config.json").is_file() and place != own
    ]
    alike = [place for place in found if base.configuration in (None, configuration_digest(place))]
    if found and not alike:
        _refuse_changed(checkpoint, found[0])
    return alike


def _refuse_changed(checkpoint: ModelFolder, base: Path) -> None:
    expected = checkpoint.manifest.base.configuration
    if expected is not None and configuration_digest(base) != expected:
        raise UsageError(
            f"{base}: config.json or generation_config.json of this base model has changed since "
            f"{checkpoint.folder} was trained on it; restore it, or train again"
        )


def load_checkpoint_model(
    checkpoint: Path | ModelFolder, *, dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    """Load a model for generation; adapters are merged into their base unless it is quantized.

    Args:
        checkpoint: a checkpoint's folder with its manifest, or the result of reading it.
        dtype: of the weights that are not quantized.

    Raises:
        UsageError: as `load_model` and `find_base_of`; or the adapters cannot be loaded.
    """
    model_folder = read_checkpoint(checkpoint) if isinstance(checkpoint, Path) else checkpoint
    folder, manifest = model_folder.folder, model_folder.manifest
    if manifest.lora is None:
        return load_model(folder, dtype=dtype, trust_remote_code=manifest.base.trust_remote_code)
    found = find_base_of(model_folder)
    model = load_base(found, dtype=dtype)
    with told_as(f"{folder}: cannot load the adapters"):
        if (folder / GENERATION_CONFIG).is_file():  # the end tokens of training
            model.generation_config = GenerationConfig.from_pretrained(folder)
        return add_adapters(model, folder, merge=found.quantization is None).eval()
