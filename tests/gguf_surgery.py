"""Modify a GGUF file to simulate a faulty exporter."""

import ctypes
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
    """Rewrite a GGUF file with changes.

    Args:
        source: the file to read.
        target: the file to write.
        keys: new values by existing key; None removes the key.
        tensors: maps name and fp32 values to new values, stored in the tensor's type; None
            removes the tensor.
        added: more tensors, stored in fp32.
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


def k_quantized(source: Path, target: Path, *, importance: bool = False) -> Path:
    """Quantize a GGUF file to Q4_K_M with llama.cpp's own code, keeping the metadata.

    Args:
        source: an f16 file with rows of a multiple of 256 values.
        target: the new file.
        importance: whether columns have unequal weights, as with an importance matrix.
    """
    import xllamacpp.xllamacpp

    quantize = ctypes.CDLL(xllamacpp.xllamacpp.__file__).ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    floats = ctypes.POINTER(ctypes.c_float)
    whole = ctypes.c_int64
    quantize.argtypes = [ctypes.c_int, floats, ctypes.c_void_p, whole, whole, whole, floats]
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        inner = field.types[-1] if len(field.types) > 1 else None
        value = int(gguf.LlamaFileType.MOSTLY_Q4_K_M)
        value = value if key == "general.file_type" else field.contents()
        writer.add_key_value(key, value, field.types[0], inner)
    for tensor in reader.tensors:
        if len(tensor.shape) == 1:
            writer.add_tensor(tensor.name, np.asarray(tensor.data), raw_dtype=tensor.tensor_type)
            continue
        finer = any(part in tensor.name for part in ("token_embd", "attn_v", "ffn_down"))
        kind = gguf.GGMLQuantizationType.Q6_K if finer else gguf.GGMLQuantizationType.Q4_K
        value = np.ascontiguousarray(tensor.data, dtype=np.float32)
        rows, width = value.shape
        block, size = gguf.GGML_QUANT_SIZES[kind]
        made = np.empty((rows, width // block * size), dtype=np.uint8)
        weights = np.linspace(0.5, 2, width, dtype=np.float32) if importance else None
        matrix = None if weights is None else weights.ctypes.data_as(floats)
        source_data = value.ctypes.data_as(floats)
        assert quantize(kind, source_data, made.ctypes.data, 0, rows, width, matrix) == made.nbytes
        writer.add_tensor(tensor.name, made, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
