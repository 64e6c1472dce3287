"""Make the same command give the same bits on an accelerator.

On a CPU, no sum depends on timing. On a GPU, the order of many kernels' sums does, unless torch is
set to be deterministic, and cuBLAS needs a separate workspace for each stream
(https://docs.pytorch.org/docs/stable/notes/randomness.html).
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

from ftreg.config.sections import RunConfig
from ftreg.errors import UsageError, first_line

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_WORKSPACES = (":4096:8", ":16:8")
_NONE = "does not have a deterministic implementation"


def has_equal_bits(config: RunConfig, device: torch.device) -> bool:
    """Whether repeating a run gives the same bits on a device of the same kind."""
    return config.train.deterministic or device.type == "cpu"


@contextlib.contextmanager
def equal_bits(config: RunConfig, device: torch.device) -> Iterator[None]:
    """Make an accelerator compute the same bits each time within the block, if configured.

    Enter it before the first matrix product on the device: cuBLAS reads its setting once.

    Raises:
        UsageError: an operation has no deterministic algorithm, or the environment sets another
            workspace.
    """
    if device.type == "cpu" or not config.train.deterministic:
        yield
        return
    workspace = os.environ.setdefault(_WORKSPACE, _WORKSPACES[0])
    if workspace not in _WORKSPACES:
        raise UsageError(
            f"{_WORKSPACE} is {workspace!r}, with which matrix products on a GPU are not "
            "deterministic; unset it, or set train.deterministic: false"
        )
    before = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic
    fills = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    # It would fill all memory that is about to be overwritten.
    settings.fill_uninitialized_memory = False
    try:
        yield
    except RuntimeError as error:
        if _NONE not in str(error):
            raise
        raise UsageError(
            f"train.deterministic: {first_line(error)}\nThis model does not train to the same bits "
            "each time on this device; set train.deterministic: false, or train on a CPU"
        ) from error
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
        settings.fill_uninitialized_memory = fills
