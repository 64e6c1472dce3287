"""Take training steps on a simulated device, and print what happened, as JSON.

The device is called `chip`. torch lets Python register a device, which cannot be undone in the
process, so this is a script. Fake tensors on it have shapes but no values. An operation on tensors
of two devices fails, and so does one that needs values, such as a copy to the CPU.
"""

import contextlib
import json
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._C import _acc
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from ftreg.config.optimizer import AdamWConfig
from ftreg.models import attention_by_length as by_length
from ftreg.models.attention import use_packed_attention
from ftreg.training import loop, loss
from ftreg.training.batching.examples import TokenisedExamples, record_batches
from ftreg.training.kernels import head as heads_module
from ftreg.training.kernels.head import find_head
from ftreg.training.optim.construct import build_optimizer
from ftreg.training.pass_size import PassSize

CHIP = "chip"


class Guard(_acc.DeviceGuard):
    """The device guard that torch requires; there is only one device."""

    def type_(self) -> Any:
        """The device's type inside torch."""
        return torch._C._autograd.DeviceType.PrivateUse1


class Hooks(_acc.PrivateUse1Hooks):
    """Reports the device as available."""

    def is_available(self) -> bool:
        """Always."""
        return True

    def is_built(self) -> bool:
        """Always."""
        return True

    def has_primary_context(self, device_index: int) -> bool:
        """Always."""
        return True


def register() -> torch.device:
    """Register the device with torch."""
    torch.utils.rename_privateuse1_backend(CHIP)
    _acc.register_python_privateuseone_device_guard(Guard())
    _acc.register_python_privateuseone_hook(Hooks())
    module: Any = types.ModuleType(CHIP)
    module.is_available = module.is_initialized = lambda: True
    module.device_count = lambda: 1
    module.current_device = lambda: 0
    module._is_in_bad_fork = lambda: False
    module.manual_seed_all = lambda seed: None
    module.get_amp_supported_dtype = lambda: [torch.bfloat16]
    torch._register_device_module(CHIP, module)
    return torch.device(CHIP, 0)


class Watch(TorchDispatchMode):
    """Counts operations on the device, and records those that copy from it or synchronize."""

    def __init__(self) -> None:
        super().__init__()
        self.computed = 0
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See the class."""
        there = any(isinstance(a, torch.Tensor) and a.device.type == CHIP for a in args)
        name = func.overloadpacket._qualified_op_name
        self.computed += there
        if there and name.endswith(("item", "_local_scalar_dense", "nonzero", "_unique2", "equal")):
            self.waits.append(name)
        found = func(*args, **(kwargs or {}))
        if there and isinstance(found, torch.Tensor) and found.device.type != CHIP:
            self.waits.append(name)
        return found


class Alone:
    """The accelerator interface of `Loop`, for one process without autocast."""

    num_processes, process_index, is_fsdp2 = 1, 0, False

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def no_sync(self, model: nn.Module) -> Any:
        """There is nothing to synchronize."""
        return contextlib.nullcontext()

    autocast = contextlib.nullcontext

    def backward(self, value: torch.Tensor) -> None:
        """Run autograd."""
        torch.autograd.backward(value)

    def reduce(self, value: torch.Tensor, reduction: str) -> torch.Tensor:
        """Return the value: there is one process."""
        return value


def on_device(model: nn.Module, device: torch.device) -> None:
    """Replace a model's tensors with fake ones on the device; call it in fake tensor mode."""
    moved: dict[int, Any] = {}

    def there(tensor: torch.Tensor) -> Any:
        if id(tensor) not in moved:
            empty = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
            parameter = isinstance(tensor, nn.Parameter)
            moved[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if parameter else empty
        return moved[id(tensor)]

    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    held[name] = there(tensor)


def outside(real: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function to run with real tensors, as needed for the layout of a row."""

    def call(*given: Any, **named: Any) -> Any:
        with unset_fake_temporarily():
            return real(*given, **named)

    return call


def examples_of(*lengths: int) -> TokenisedExamples:
    """Return examples of the given lengths in tokens, of which three are the prompt."""
    pairs = (([3, 4, 5], [*range(6, 3 + length)]) for length in lengths)
    return TokenisedExamples(record_batches(pairs))


def take_steps(device: torch.device, *, kernel: bool, chunked: bool) -> dict[str, Any]:
    """Take two steps, in bf16 with torch's kernel or in fp32 with padding; return what happened."""
    settings = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=300, **settings, **heads))
    head = find_head(model)
    assert head is not None
    head._chunk_there, heads_module.CHUNK = (4, 4) if chunked else (512, 512)
    assert use_packed_attention(model)
    if kernel:
        model.bfloat16()
    examples, read = examples_of(40, 23, 22, 9, 4, 3 + 1), 0

    def read_numbers(*measured: torch.Tensor) -> list[float]:
        nonlocal read
        read += 1
        assert all(number.device == device for number in measured)
        return [1.0] * len(measured)

    loop.read_numbers = read_numbers
    by_length.takes_lengths = lambda *shape, **named: kernel
    with FakeTensorMode() as mode:

        def sent(tensor: torch.Tensor, to: torch.device) -> torch.Tensor:
            assert to == device
            with mode:
                return torch.empty(tensor.shape, dtype=tensor.dtype, device=to)

        by_length.sent = loss.sent = sent
        on_device(model, device)
        optimizer = build_optimizer(model, AdamWConfig(lr=0.1))
        going = loop.Loop(
            accelerator=Alone(device),  # type: ignore[arg-type]
            model=model,
            optimizer=optimizer,
            schedule=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0),
            examples=examples,
            order=[[0, 1, 2], [3, 4, 5]],
            loss=loss.Loss(row_tokens=64, packed_attention=True, head=head),
            pass_size=PassSize(64),
            notice=print,
            max_grad_norm=1.0,
            seed=0,
        )
        with Watch() as watch:
            records = list(going.steps())
    return {
        "steps": len(records),
        "read": read,
        "computed": watch.computed,
        "waits": watch.waits,
        "implementation": "fused" if optimizer.param_groups[0]["fused"] else "plain",
    }


def main() -> None:
    """Print what happened in each case."""
    device = register()
    loss.micro_batches = outside(loss.micro_batches)  # type: ignore[assignment]
    blocks = by_length._blocks
    by_length._blocks = outside(lambda *given: list(blocks(*given)))  # type: ignore[assignment]
    cases = [(True, False), (False, True)]
    found = [take_steps(device, kernel=kernel, chunked=chunked) for kernel, chunked in cases]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
