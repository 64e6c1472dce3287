"""Save models and tokenizers, whose libraries have errors of their own for a disk that fails."""

import re
from pathlib import Path
from typing import Any


def save_pretrained(item: Any, folder: Path | str, **options: Any) -> None:
    """Save a model or tokenizer into a folder.

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
