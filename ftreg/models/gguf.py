"""Convert a GGUF file into an ordinary Hugging Face model folder."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging as transformers_logging

from ftreg.models.save import save_pretrained


def convert_gguf(gguf: Path, folder: Path) -> None:
    """Write tokenizer, configuration and fp32 safetensors of a GGUF model into `folder`.

    transformers marks a loaded GGUF model as quantized, and refuses to cast or save it. So the
    dequantized weights are loaded into a new model of the same configuration.

    Args:
        gguf: the file.
        folder: an existing folder.
    """
    transformers_logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    config = loaded.config
    config.__dict__.pop("quantization_config", None)
    config._name_or_path = ""
    config.architectures = [type(loaded).__name__]
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    tokenizer.model_max_length = config.max_position_embeddings
    tokenizer.name_or_path = ""
    save_pretrained(tokenizer, folder)
    save_pretrained(model, folder)
