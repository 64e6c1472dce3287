"""Change a GGUF file as a faulty exporter would have written it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

Tensor = np.ndarray[Any, Any]


def operate(
    source: Path,
    target: Path,
    *,
    keys: Mapping[str, Any] | None = None,
    tensors: Callable[[str, Tensor], Tensor | None] | None = None,
    added: Mapping[str, Tensor] | None = None,
) -> Path:
    """Write a GGUF file again.

    `keys` are new values, None takes the key out; `tensors` is given each tensor in fp32 and
    returns what is written in its type, None takes it out; `added` are more tensors, in fp32.
    """
    reader = gguf.GGUFReader(source)
    changes = dict(keys or {})
    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        value = changes.pop(key) if key in changes else field.contents()
        if value is not None:
            inner = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(key, value, field.types[0], inner)
    assert not changes, changes
    for tensor in reader.tensors:
        value = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        value = value if tensors is None else tensors(tensor.name, value)
        if value is not None:
            stored = gguf.quants.quantize(np.ascontiguousarray(value), tensor.tensor_type)
            writer.add_tensor(tensor.name, stored, raw_dtype=tensor.tensor_type)
    for name, value in (added or {}).items():
        writer.add_tensor(name, value.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
