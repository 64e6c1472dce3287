"""Read a GGUF file: its keys, and its tensors as what they stand for."""

import re
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from ftreg.errors import UsageError, first_line

_EMBEDDINGS = ("token_embd.weight", "output.weight")
_SUPER_BLOCK = 256
"""Numbers of a block of K-quants; rows that fill none are quantized otherwise."""


class GgufFile:
    """A GGUF file, of which no more is read than is asked for.

    Args:
        path: the file.

    Raises:
        UsageError: it is none, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise UsageError(f"{path}: there is no such file")
        try:
            self._reader = gguf.GGUFReader(path)
        except Exception as error:  # numpy's and Python's own, from offsets that lead nowhere
            raise UsageError(
                f"{path}: this is not a GGUF file, or it is damaged: {first_line(error)}"
            ) from error
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key."""
        field = self._reader.get_field(key)
        return default if field is None else field.contents()

    @property
    def names(self) -> list[str]:
        """The names of the tensors, in the order of the file."""
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, as numpy has it."""
        return tuple(int(size) for size in reversed(self._tensors[name].shape))

    def kind(self, name: str) -> gguf.GGMLQuantizationType:
        """Return the type of a tensor."""
        return self._tensors[name].tensor_type

    def stored(self, name: str) -> np.ndarray[Any, Any]:
        """Return the bytes of a tensor, by rows."""
        return np.asarray(self._tensors[name].data)

    def rows(self, name: str, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Return some rows of a tensor in fp32; of one with one dimension all."""
        found = self.stored(name)
        part = found if found.ndim == 1 else found[start:stop]
        return np.asarray(gguf.quants.dequantize(part, self.kind(name)), dtype=np.float32)

    @property
    def context(self) -> int:
        """The tokens of context that the file says the model is for; 0 where it says nothing."""
        return int(self.get(f"{self.get('general.architecture')}.context_length", 0))

    @cached_property
    def precision(self) -> str:
        """The type that most of the weights have, in small letters: `q8_0`, `q4_k`."""
        numbers: Counter[str] = Counter()
        for name, tensor in self._tensors.items():
            if len(tensor.shape) > 1 and name not in _EMBEDDINGS:
                numbers[tensor.tensor_type.name] += int(tensor.n_elements)
        return numbers.most_common(1)[0][0].lower() if numbers else "f32"

    def named_precisions(self) -> dict[str, str]:
        """Return what is said of the type: place to type, without the size of a mixture."""
        found = {}
        number = self.get("general.file_type")
        if number in set(gguf.LlamaFileType):
            name = gguf.LlamaFileType(number).name.lower()
            found["general.file_type"] = re.sub("^(all|mostly)_", "", name)
        named = re.findall(
            r"(?i)(?<![a-z0-9])(i?q[1-8]_(?:k|[01]|x?xs|nl|s|m)|bf16|f16|f32)(?![0-9])",
            self.path.stem,
        )
        if named:
            found["the file's name"] = named[-1].lower()
        return {place: re.sub("(?<=_k)_[sml]$", "", name) for place, name in found.items()}

    def fills_blocks(self) -> bool:
        """Whether all rows fill the blocks of K-quants."""
        return all(
            int(tensor.shape[0]) % _SUPER_BLOCK == 0
            for tensor in self._tensors.values()
            if len(tensor.shape) > 1
        )
