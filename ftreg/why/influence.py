"""Which training rows pull a model towards what it got wrong.

A training step on a row moves the weights against the row's gradient. To first order it changes the
loss of another answer by minus the dot product of the two gradients: TracIn, Pruthi et al.,
"Estimating training data influence by tracing gradient descent", NeurIPS 2020 (arXiv 2002.08484),
equation 1, summed over the available states of the run. Only one number per row over many examples
is needed, so the examples' gradients are summed first, and nothing is stored or projected.

An example that got worse has two answers, the checkpoint's output and a better one: a row is
compared with the gradient of the first minus that of the second. The cosine is used instead of the
product, since a row that the model has never learnt has the largest gradient whatever it teaches:
Xia et al., "LESS", ICML 2024 (arXiv 2402.04333), section 3.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftreg.errors import UsageError
from ftreg.models.assistant_turn import RenderedExample
from ftreg.records.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Contrast:
    """The two answers to a prompt, as token ids; one of them may be missing."""

    worse: RenderedExample | None
    better: RenderedExample | None


def load_with_gradients(checkpoint: Checkpoint) -> Any:
    """Load a checkpoint with gradients for its trained weights; for adapters, only for these.

    Raises:
        UsageError: it cannot be loaded, or the base of its adapters is missing.
    """
    from ftreg.models.adapters import add_adapters
    from ftreg.models.pretrained import find_base_of, load_base, load_checkpoint_model

    if checkpoint.manifest.lora is None:
        return load_checkpoint_model(checkpoint.folder)
    model = load_base(find_base_of(checkpoint))
    adapted = add_adapters(model, checkpoint.folder, merge=False)
    for name, parameter in adapted.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return adapted.eval()


def harm_of_rows(
    model: Any,
    rows: Iterable[RenderedExample],
    contrasts: Sequence[Contrast],
    *,
    advance: Callable[[], None] = lambda: None,
) -> list[float]:
    """Return how strongly each row pulls towards the worse answers, in [-1, 1].

    Args:
        model: from `load_with_gradients`.
        rows: training rows.
        contrasts: for the examples that got worse, at least one with an answer.
        advance: called after each row.

    Raises:
        UsageError: no contrast has a gradient.
    """
    direction: list[torch.Tensor] | None = None
    for contrast in contrasts:
        pull = _unit(_pull(model, contrast))
        if pull is not None:
            direction = (
                pull if direction is None else [a + b for a, b in zip(direction, pull, strict=True)]
            )
    direction = _unit(direction)
    if direction is None:
        raise UsageError("the answers of these examples do not differ, so no row can be blamed")
    found = []
    for row in rows:
        gradient = _unit(_gradient(model, row))
        found.append(0.0 if gradient is None else _product(gradient, direction))
        advance()
    return found


def _pull(model: Any, contrast: Contrast) -> "list[torch.Tensor] | None":
    """Return the gradient of the worse answer minus that of the better one."""
    worse = None if contrast.worse is None else _gradient(model, contrast.worse)
    better = None if contrast.better is None else _gradient(model, contrast.better)
    if worse is None or better is None:
        return worse if better is None else [-part for part in better]
    return [a - b for a, b in zip(worse, better, strict=True)]


def _gradient(model: Any, example: RenderedExample) -> "list[torch.Tensor]":
    """Return the gradient of the answers' mean loss per token, one tensor per trained weight."""
    import torch
    from torch.nn import functional

    ids = torch.tensor([[*example.prompt, *example.answer]], device=model.device)
    spans = [*example.earlier, (len(example.prompt), ids.shape[1])]
    places = torch.cat([torch.arange(*span, device=ids.device) for span in spans])
    with torch.enable_grad():
        logits = model(input_ids=ids, use_cache=False).logits[0, places - 1].float()
        loss = functional.cross_entropy(logits, ids[0, places])
        trained = [part for part in model.parameters() if part.requires_grad]
        found = torch.autograd.grad(loss, trained, allow_unused=True)
    return [
        torch.zeros_like(part) if gradient is None else gradient
        for part, gradient in zip(trained, found, strict=True)
    ]


def _product(first: "list[torch.Tensor]", second: "list[torch.Tensor]") -> float:
    return sum(float((a * b).sum()) for a, b in zip(first, second, strict=True))


def _unit(gradient: "list[torch.Tensor] | None") -> "list[torch.Tensor] | None":
    """Return the gradient normalized to length 1; None if it is zero."""
    norm = 0.0 if gradient is None else _product(gradient, gradient) ** 0.5
    if gradient is None or not 0 < norm < float("inf"):
        return None
    return [part / norm for part in gradient]
