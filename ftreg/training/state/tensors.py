"""Save nested values that contain tensors, as JSON and a safetensors file."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor, distribute_tensor

_TENSOR = "tensor"
_FLOAT = "float"
_TUPLE = "tuple"


def all_finite(tensor: torch.Tensor) -> bool:
    """Whether all values are finite; for a sharded tensor, all processes must call it."""
    return bool(whole(torch.isfinite(tensor).all()))


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Gather a sharded tensor (all processes must call it); return any other unchanged."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(model: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Undo `whole`: shard a tensor like `model` (all processes must call it)."""
    if not isinstance(model, DTensor):
        return tensor
    return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements)


def split_tensors(value: Any, path: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Move every tensor of a nested value into `tensors`; return the rest, JSON-ready.

    Args:
        value: numbers, strings, None, tensors, or lists, tuples and string-keyed mappings of them.
        path: prefix of the names of this value's tensors.
        tensors: receives the tensors, contiguous and on the CPU.

    Raises:
        TypeError: any other type.
    """
    if isinstance(value, torch.Tensor):
        tensors[path] = whole(value.detach()).to("cpu").contiguous()
        return {_TENSOR: path}
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: str(value)}  # JSON has no infinity
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        items = [split_tensors(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {
            "items": {
                key: split_tensors(item, f"{path}/{key}", tensors) for key, item in value.items()
            }
        }
    raise TypeError(f"{path} is a {type(value).__name__}")


def join_tensors(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Undo `split_tensors`.

    Raises:
        KeyError: a tensor is missing.
    """
    if isinstance(value, list):
        return [join_tensors(item, tensors) for item in value]
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        if _FLOAT in value:
            return float(value[_FLOAT])
        if _TUPLE in value:
            return tuple(join_tensors(item, tensors) for item in value[_TUPLE])
        return {key: join_tensors(item, tensors) for key, item in value["items"].items()}
    return value


def holds_tensors(value: Any) -> bool:
    """Whether a result of `split_tensors` refers to a tensor."""
    if isinstance(value, list):
        return any(map(holds_tensors, value))
    if isinstance(value, dict):
        return _TENSOR in value or any(map(holds_tensors, value.values()))
    return False


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a safetensors file.

    Raises:
        OSError: it cannot be written (converted from safetensors' own error).
    """
    seen: set[int] = set()
    kept: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.to("cpu").contiguous()
        # safetensors rejects shared memory; some optimizers share a tensor between groups.
        place = tensor.untyped_storage().data_ptr()
        kept[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    try:
        save_file(kept, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file.

    Raises:
        ValueError: it is not safetensors.
    """
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"not safetensors: {error}") from error
