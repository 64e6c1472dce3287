"""Low-rank adapters, with peft (the extra `lora`)."""

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from ftreg.config.sections import LoraConfig
from ftreg.errors import UsageError
from ftreg.files.reading import LARGEST_SETTINGS, parse_json, read_text
from ftreg.files.store import damaged


def _peft() -> Any:
    """Import peft on first use: it is an extra, and as slow to import as torch.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import peft
    except ModuleNotFoundError as error:
        raise UsageError("lora needs peft: pip install peft") from error
    return peft


def with_adapters(model: PreTrainedModel, config: LoraConfig) -> nn.Module:
    """Return the model with adapters, in evaluation mode; only the adapters are trainable.

    Raises:
        UsageError: no module has one of the configured names, one has an output with all-zero
            weights (which DoRA cannot adapt), or peft is not installed.
    """
    peft = _peft()
    adapters = peft.LoraConfig(
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        use_rslora=config.rslora,
        use_dora=config.dora,
        target_modules=config.target_modules,
        task_type="CAUSAL_LM",
    )
    try:
        with _tied_weights_are_minded():
            wrapped: nn.Module = peft.get_peft_model(model, adapters)
    except ValueError as error:
        raise UsageError(f"lora: {error}") from error
    for name, parameter in wrapped.named_parameters():
        if "lora_magnitude_vector" in name and not parameter.all():
            module = name.partition(".lora_magnitude_vector")[0].rpartition(".")[2]
            raise UsageError(
                f"lora.dora: {module} has outputs whose weights are all zero, and so no direction; "
                "leave it out of lora.target_modules, or set dora: false"
            )
    return wrapped.eval()


@dataclass(frozen=True, slots=True)
class Adapter:
    """A linear layer's adapter: y = layer(x) + scaling * up(down(x)).

    `module` is peft's wrapper of `layer`; `down` is (rank, in) and `up` (out, rank).
    """

    module: nn.Module
    layer: nn.Linear
    down: nn.Parameter
    up: nn.Parameter
    scaling: float


def plain_adapters(model: nn.Module) -> list[Adapter]:
    """Return the adapters of `with_adapters` that `Adapter` describes completely.

    This excludes adapters with dropout or DoRA, those of layers that are not exactly `nn.Linear`,
    and the output layer's, whose weight is often tied to the embedding.
    """
    wrapped: Any = model
    head = wrapped.get_base_model().get_output_embeddings()
    found = []
    for module in model.modules():
        if not isinstance(module, _peft().tuners.lora.Linear):
            continue
        (name,) = module.active_adapters
        layer = module.base_layer
        plain = isinstance(module.lora_dropout[name], nn.Identity) and type(layer) is nn.Linear
        if plain and name not in module.lora_variant and module is not head:
            found.append(
                Adapter(
                    module=module,
                    layer=layer,
                    down=module.lora_A[name].weight,
                    up=module.lora_B[name].weight,
                    scaling=module.scaling[name],
                )
            )
    return found


def add_adapters(model: PreTrainedModel, folder: Path, *, merge: bool = True) -> PreTrainedModel:
    """Load the adapters in a folder and return the model with them.

    Args:
        model: their base model.
        folder: contains the adapters.
        merge: add them to the model's weights. Keep them separate, as in training, if these have 4
            or 8 bits: merging would lose much of the adapters.

    Raises:
        UsageError: peft is not installed, or the folder does not contain LoRA weights in
            safetensors.
    """
    _check_adapters(folder)
    with _tied_weights_are_minded():
        adapted = _peft().PeftModel.from_pretrained(model, folder)
    if not merge:
        beside: PreTrainedModel = adapted.get_base_model()
        return beside
    _untie(model)
    merged: PreTrainedModel = adapted.merge_and_unload()
    return merged


def _untie(model: PreTrainedModel) -> None:
    """Untie embedding and output layer where one of them has an adapter.

    Merged into a shared weight, the adapter of one would change the other too.
    """
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    if head is None or not (hasattr(embedding, "base_layer") or hasattr(head, "base_layer")):
        return
    inner = getattr(head, "base_layer", head)
    if inner.weight is getattr(embedding, "base_layer", embedding).weight:
        inner.weight = nn.Parameter(inner.weight.detach().clone(), requires_grad=False)
        model.config.tie_word_embeddings = False


@contextlib.contextmanager
def _tied_weights_are_minded() -> Iterator[None]:
    """Silence peft's warning about adapters on tied weights; `_untie` makes merging them safe."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*`tie_word_embeddings=True`")
        yield


def _check_adapters(folder: Path) -> None:
    """Refuse what peft would load but ftreg never writes.

    Without safetensors peft loads a pickle, or else asks the hub; other kinds of adapters fetch
    models and tokenizers, and Megatron's settings name a module to import.
    """
    path = folder / "adapter_config.json"
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise UsageError(f"{weights}: the adapters' weights are missing")
    text = read_text(path, most=LARGEST_SETTINGS, kind="adapter configuration")
    config = parse_json(text, place=str(path), first_line=1)
    with damaged(path, kind="adapter configuration"):
        if config["peft_type"] != "LORA" or config.get("megatron_config") is not None:
            raise ValueError("these are not the adapters that `lora` trains")
