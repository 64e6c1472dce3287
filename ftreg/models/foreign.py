"""Models that ftreg did not train, identified by the files that determine their outputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftreg.config.sections import BaseConfig, LoraConfig
from ftreg.errors import UsageError, first_line, shown
from ftreg.files.reading import LARGEST_SETTINGS, parse_json, read_text
from ftreg.files.store import damaged, digest, file_digest, portable_path
from ftreg.models.pretrained import BaseModel, find_base, weights_digest
from ftreg.records.checkpoint import ModelFolder, files_that_decide
from ftreg.records.manifest import BaseRecord, Files, WeightsRecord, digest_over

_ADAPTERS = "adapter_config.json"
_WEIGHTS = (".safetensors",)
# Adapters with either of these files have their own tokenizer.
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignFacts:
    """What is known about a model without a manifest; see `ModelFacts`."""

    identity: str
    weights: WeightsRecord
    files: Files
    base: BaseRecord
    lora: LoraConfig | None
    base_config: BaseConfig

    def known(self) -> dict[str, Any]:
        """Return what is known of its recipe, with flat keys as in a trained checkpoint's."""
        if self.lora is None:
            return {}
        base = self.base.model_dump(include={"model", "revision", "digest"})
        sections = {"base": base, "lora": self.lora.model_dump(exclude_defaults=True)}
        return {f"{of}.{key}": item for of, keys in sections.items() for key, item in keys.items()}


def find_foreign(config: BaseConfig, *, given_base: str | None = None) -> ModelFolder:
    """Find a model by the name that a user gave, and read what determines its outputs.

    Args:
        config: `model` is a packaged name, a folder (of whole weights or peft adapters) or a hub
            id; the other settings say how to load it.
        given_base: the base model of adapters; None for the one that they name.

    Raises:
        UsageError: it is none of these, its files are not a model, or the base is not found.
    """
    folder = Path(config.model)
    if folder.is_dir() and (folder / _ADAPTERS).is_file():
        return _adapters(folder, config, given_base)
    found = find_base(config)
    if (found.folder / _ADAPTERS).is_file():  # from the hub
        return _adapters(found.folder, config, given_base)
    weights, files = _files(found.folder, trusted=config.trust_remote_code)
    facts = ForeignFacts(
        identity=digest({"weights": weights.digest, "files": files}),
        weights=weights,
        files=files,
        base=_record(found),
        lora=None,
        base_config=config,
    )
    return ModelFolder(found.folder, facts)


def _adapters(folder: Path, config: BaseConfig, given_base: str | None) -> ModelFolder:
    """Return peft adapters, with the base model that is given or else the one that they name."""
    path = folder / _ADAPTERS
    text = read_text(path, most=LARGEST_SETTINGS, kind="adapter configuration")
    said = parse_json(text, place=str(path), first_line=1)
    with damaged(path, kind="adapter configuration"):
        if said["peft_type"] != "LORA":
            raise UsageError(
                f"{path}: adapters of the kind {shown(said['peft_type'])}; only LoRA's can be run"
            )
        named = given_base or said["base_model_name_or_path"]
        lora = _lora(said)
        own = config.model_copy(
            update={"model": str(named), "revision": None if given_base else said.get("revision")}
        )
    try:
        base = find_foreign(own)
    except UsageError as error:
        raise UsageError(
            f"{folder}: the base model of these adapters, {named}, is not here: "
            f"{first_line(error)}; say where it is: -s base.model=FOLDER"
        ) from error
    if base.manifest.lora is not None:
        raise UsageError(f"{folder}: the base model of these adapters, {named}, is adapters itself")
    weights, files = _files(folder, trusted=config.trust_remote_code)
    facts = ForeignFacts(
        identity=digest(
            {"weights": weights.digest, "files": files, "base": base.manifest.identity}
        ),
        weights=weights,
        files=files,
        base=base.manifest.base,
        lora=lora,
        base_config=own,
    )
    own_tokenizer = any((folder / name).is_file() for name in _TOKENIZERS)
    return ModelFolder(folder, facts, base_folder=None if own_tokenizer else base.folder)


def _lora(said: Mapping[str, Any]) -> LoraConfig:
    """Return the shape of adapters as ftreg's own configuration.

    Raises:
        KeyError, TypeError, ValueError: the settings are not LoRA's.
    """
    modules = said.get("target_modules") or "all-linear"
    return LoraConfig(
        r=said["r"],
        alpha=float(said["lora_alpha"]),
        rslora=bool(said.get("use_rslora")),
        dora=bool(said.get("use_dora")),
        dropout=float(said.get("lora_dropout") or 0.0),
        target_modules=modules if isinstance(modules, str) else sorted(modules),
    )


def _files(folder: Path, *, trusted: bool) -> tuple[WeightsRecord, Files]:
    weights_digest(folder)  # refuses a folder without safetensors
    names = files_that_decide(folder)
    if trusted:
        names += sorted(path.name for path in folder.glob("*.py"))
    digests = {name: file_digest(folder / name) for name in names}
    weights = {name: value for name, value in digests.items() if name.endswith(_WEIGHTS)}
    files = {name: value for name, value in digests.items() if name not in weights}
    return WeightsRecord(digest=digest_over(weights), files=weights), files


def _record(base: BaseModel) -> BaseRecord:
    return BaseRecord(
        model=portable_path(base.name),
        source=base.source,
        revision=base.revision,
        digest=base.digest,
        configuration=base.configuration,
        tokenizer=base.tokenizer,
        trust_remote_code=base.trust_remote_code,
        quantization=base.quantization,
    )
