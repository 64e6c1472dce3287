"""Choose the fastest way to train that gives the same loss as each example alone.

Not every architecture and attention implementation separates the examples of a row: recurrent
states and convolutions carry over from one to the next, and so do masks that ignore restarting
positions. So each way is compared, token by token, with every example in a separate pass of plain
transformers: on a twin of the model, with gradients, and then on the model.
"""

import dataclasses
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from torch.nn import functional
from transformers import PreTrainedModel

from ftreg.config.sections import RunConfig
from ftreg.models.soundness import context_of
from ftreg.models.twin import proven_on_twin, twin_of
from ftreg.process import is_out_of_memory
from ftreg.training.batching.examples import TokenisedExamples, record_batches
from ftreg.training.events import TrainEvents
from ftreg.training.kernel_switch import TrainingWay, loss_by, remove_kernels, ways_of
from ftreg.training.loss import Loss
from ftreg.training.pass_size import LEAST

_VERSION = 1
"""Increased when a way changes what it computes, so that it is verified again."""
_TOLERANCE = 1e-3
"""Largest error of a token's loss in fp32, in nats, and of a gradient, as a share of its norm."""
_ROUNDED = 0.1
"""The same for weights in lower precision."""
_LONGEST = 4160
"""Maximum tokens of the twin's longest example: above 4,096, where some models scale positions."""


def choose_loss(
    network: PreTrainedModel,
    examples: TokenisedExamples,
    *,
    config: RunConfig,
    accelerator: Accelerator,
    events: TrainEvents,
) -> Loss:
    """Return the loss by the fastest verified way, and switch the model to it.

    Args:
        network: the model as loaded, with its adapters, if any.
        examples: the training examples.
        config: the complete configuration.
        accelerator: the run's accelerator.
        events: receives a notice of what a model does not support.
    """
    row_tokens = config.train.micro_batch_tokens or LEAST
    ways = ways_of(network, examples, config=config, accelerator=accelerator)
    rows = sorted(range(len(examples)), key=examples.length)[:3]
    alone = _alone(network, examples, rows)
    for way in ways[_first_on_twin(network, ways, longest=examples.longest()) :]:
        loss = loss_by(way, network, row_tokens=row_tokens)
        if _agrees(loss, network, examples, rows, alone):
            break
        remove_kernels(loss, network)
    left_out = way.lacks(ways[0])
    if left_out:
        events.notice(
            f"{type(network).__name__} is trained without {', '.join(left_out)}: on this model it "
            "would not give the loss of each example by itself"
        )
    return loss


def _first_on_twin(network: PreTrainedModel, ways: Sequence[TrainingWay], *, longest: int) -> int:
    """Return the index of the first way that passes on the model's twin."""
    longest = min(longest, _LONGEST)
    question = {
        "trains": [dataclasses.astuple(way) for way in ways],
        "longest": longest,
        "version": _VERSION,
    }
    return int(
        proven_on_twin(
            network, question, lambda: str(_prove_on_twin(network, ways, longest=longest))
        )
    )


def _prove_on_twin(network: PreTrainedModel, ways: Sequence[TrainingWay], *, longest: int) -> int:
    kind = type(network)
    try:
        twin = twin_of(network.config, kind=kind).to(network.device)
        examples = _made_up(min(longest, context_of(twin) or longest))
        rows = range(len(examples))
        alone = _alone(twin, examples, rows, gradients=True)
    except Exception:  # there is no twin, or it fails in some other way
        # Only transformers' own ways are then verified on the model itself.
        return next(i for i, way in enumerate(ways) if not way.has_kernels)
    wanted = _gradients(twin)
    for number, way in enumerate(ways):
        twin = twin_of(network.config, kind=kind).to(network.device)
        loss = loss_by(way, twin, row_tokens=1 << 30, fused=network.device.type == "cpu")
        if _agrees(loss, twin, examples, rows, alone, gradients=wanted):
            return number
    return len(ways) - 1


def _made_up(longest: int) -> TokenisedExamples:
    """Return examples of different lengths with a common prefix, the last with `longest` tokens."""
    state = torch.Generator().manual_seed(0)
    draw = torch.randint(10, 250, (longest + 100,), generator=state).tolist()
    lengths = [min(length, longest) for length in (9, 14, 23, longest)]
    begin = draw[:4]
    made = [[*begin, *draw[7 * i + 4 : 7 * i + length]] for i, length in enumerate(lengths)]
    halves = ((ids[: min(6, len(ids) // 2)], ids) for ids in made)
    return TokenisedExamples(record_batches((prompt, ids[len(prompt) :]) for prompt, ids in halves))


def _alone(
    model: PreTrainedModel,
    examples: TokenisedExamples,
    rows: Sequence[int],
    *,
    gradients: bool = False,
) -> torch.Tensor:
    """Return each token's loss (n,) in nats, with a separate pass per example, longest first."""
    found = []
    with torch.set_grad_enabled(gradients):
        for row in _in_order(examples, rows):
            ids = torch.tensor([list(examples.ids(row))], device=model.device)
            spans = examples.spans(row)
            places = torch.cat([torch.arange(*span, device=ids.device) for span in spans])
            logits = model(input_ids=ids, use_cache=False).logits[0, places - 1].float()
            losses = functional.cross_entropy(logits, ids[0, places], reduction="none")
            if gradients:
                torch.autograd.backward(losses.sum())
            found.append(losses.detach())
    return torch.cat(found)


def _in_order(examples: TokenisedExamples, rows: Sequence[int]) -> list[int]:
    """Return rows in the order in which a step lays them out."""
    return sorted(rows, key=lambda row: (-examples.length(row), row))


def _agrees(
    loss: Loss,
    model: PreTrainedModel,
    examples: TokenisedExamples,
    rows: Sequence[int],
    alone: torch.Tensor,
    *,
    gradients: dict[str, torch.Tensor] | None = None,
) -> bool:
    """Whether a way reproduces each token's loss, and the gradients if given."""
    if loss.row_tokens:  # all share a row, however long
        loss = dataclasses.replace(loss, row_tokens=sum(map(examples.length, rows)))
    batches = loss.lay_out(rows, examples)
    most = _TOLERANCE if model.dtype is torch.float32 else _ROUNDED
    try:
        with torch.no_grad():
            found = torch.cat([loss.of_tokens(model, batch) for batch in batches])
        if (found - alone).abs().max() > most:
            return False
        if gradients is not None:
            for batch in batches:
                torch.autograd.backward(loss(model, batch, device=model.device))
            return _close(_gradients(model), gradients)
    except Exception as error:  # models fail on unsupported arguments in any way
        if is_out_of_memory(error):
            raise
        return False
    return True


def _gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: part.grad for name, part in model.named_parameters() if part.grad is not None}


def _close(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    """Whether gradients are the same up to rounding, relative also to the largest of them."""
    norms = {name: gradient.norm().item() for name, gradient in wanted.items()}
    least = 1e-5 * max(norms.values(), default=0.0)
    return found.keys() == wanted.keys() and all(
        (found[name] - wanted[name]).norm().item() <= _TOLERANCE * norm + least
        for name, norm in norms.items()
    )
