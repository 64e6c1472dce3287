"""Read a GGUF file: its metadata and its tensors, dequantized."""

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
"""Weights per block of K-quants; rows that are not a multiple of it are quantized otherwise."""


class GgufFile:
    """A GGUF file whose tensors are read on demand.

    Args:
        path: the file.

    Raises:
        UsageError: the file is missing, damaged, or not GGUF.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise UsageError(f"{path}: there is no such file")
        try:
            self._reader = gguf.GGUFReader(path)
        except Exception as error:  # numpy's and Python's own, from invalid offsets
            raise UsageError(
                f"{path}: this is not a GGUF file, or it is damaged: {first_line(error)}"
            ) from error
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a metadata key, or the default."""
        field = self._reader.get_field(key)
        return default if field is None else field.contents()

    @property
    def names(self) -> list[str]:
        """The names of the tensors, in file order."""
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape in numpy's order, the reverse of the file's."""
        return tuple(int(size) for size in reversed(self._tensors[name].shape))

    def kind(self, name: str) -> gguf.GGMLQuantizationType:
        """Return the quantization type of a tensor."""
        return self._tensors[name].tensor_type

    def stored(self, name: str) -> np.ndarray[Any, Any]:
        """Return a tensor's data as stored, by rows."""
        return np.asarray(self._tensors[name].data)

    def rows(self, name: str, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Return rows `start` to `stop` of a tensor in fp32; all of a one-dimensional tensor."""
        found = self.stored(name)
        part = found if found.ndim == 1 else found[start:stop]
        return np.asarray(gguf.quants.dequantize(part, self.kind(name)), dtype=np.float32)

    @property
    def context(self) -> int:
        """The context length in tokens that the file declares; 0 if it declares none."""
        return int(self.get(f"{self.get('general.architecture')}.context_length", 0))

    @cached_property
    def precision(self) -> str:
        """The type of most weights, without embeddings, in lower case: `q8_0`, `q4_k`."""
        numbers: Counter[str] = Counter()
        for name, tensor in self._tensors.items():
            if len(tensor.shape) > 1 and name not in _EMBEDDINGS:
                numbers[tensor.tensor_type.name] += int(tensor.n_elements)
        return numbers.most_common(1)[0][0].lower() if numbers else "f32"

    def named_precisions(self) -> dict[str, str]:
        """Return the declared types by where they are declared; `q4_k_m` counts as `q4_k`."""
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
        """Whether all rows are a multiple of the block size of K-quants (256)."""
        return all(
            int(tensor.shape[0]) % _SUPER_BLOCK == 0
            for tensor in self._tensors.values()
            if len(tensor.shape) > 1
        )
