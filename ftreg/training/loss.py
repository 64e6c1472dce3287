"""How a step's examples are passed to the model, and their loss."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional

from ftreg.models.attention import told_lengths
from ftreg.models.attention_by_length import sent
from ftreg.training.batching.batches import MicroBatch, micro_batches
from ftreg.training.batching.examples import TokenisedExamples
from ftreg.training.kernels.head import Head


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """The loss of a step's answers, with one way to lay out examples and run the model.

    All of training uses the same instance, so that the verified way is the one that trains. The
    defaults are plain transformers: each example in a separate row, the model's own attention, and
    torch's cross-entropy.

    `row_tokens` is the maximum tokens of a row that examples share; 0 gives each its own row.
    `packed_attention` means that the model was switched to it and needs the examples' lengths.
    `share_prefix`, which requires `packed_attention`, stores the common prefix of a step's examples
    once per row. `head` applies the output layer to many positions. `bare` is for models that
    accept only token ids: it passes nothing else, and selects from the logits of all positions.
    """

    row_tokens: int = 0
    packed_attention: bool = False
    share_prefix: bool = False
    head: Head | None = None
    bare: bool = False

    def lay_out(self, rows: Sequence[int], examples: TokenisedExamples) -> list[MicroBatch]:
        """Return a step's rows as micro-batches; see `micro_batches`."""
        return micro_batches(
            rows, examples, max_tokens=self.row_tokens, share_prefix=self.share_prefix
        )

    def passes(
        self, rows: Sequence[int], examples: TokenisedExamples, *, accelerator: Accelerator
    ) -> list[tuple[MicroBatch, float]]:
        """Return this process's micro-batches of rows that are divided between all processes.

        Each comes with its weight in the sum: 1, or 0 for passes that a process without examples,
        or with fewer micro-batches than others, makes only to stay in step with them.
        """
        workers = accelerator.num_processes
        own = rows[accelerator.process_index :: workers]
        # A process without examples must still take part in the gradient exchange.
        weight = 1.0 if own else 0.0
        batches = self.lay_out(own or rows[:1], examples)
        found = [(batch, weight) for batch in batches]
        if accelerator.is_fsdp2:
            # Each pass gathers sharded parameters from all processes.
            most = max(
                len(self.lay_out(rows[index::workers] or rows[:1], examples))
                for index in range(workers)
            )
            found += [(batches[0], 0.0)] * (most - len(found))
        return found

    def __call__(
        self, model: nn.Module, batch: MicroBatch, *, device: torch.device
    ) -> torch.Tensor:
        """Return the summed negative log-likelihood of a micro-batch's answers, in nats.

        The language-model head runs only at positions that carry loss: `logits_to_keep` takes their
        indices. If they are many, or if `head` computes a fused loss, they go through `head`. There
        is no attention mask: either `packed_attention` receives the examples' lengths, or
        transformers detects them by the restarting positions and makes its causal mask
        block-diagonal.
        """
        targets = sent(batch.targets, device)
        head = self.head if self.head is not None and self.head.takes(targets) else None
        output = self._output(model, batch, head, device=device)
        if head is not None:
            return head.loss(output, targets)
        return functional.cross_entropy(output.float(), targets, reduction="sum")

    def of_tokens(self, model: Any, batch: MicroBatch) -> torch.Tensor:
        """Return the negative log-likelihood (n,), in nats, of each token with loss."""
        output = self._output(model, batch, self.head, device=model.device)
        logits = output if self.head is None else self.head.logits(output)
        targets = batch.targets.to(model.device)
        return functional.cross_entropy(logits.float(), targets, reduction="none")

    def _output(
        self, model: nn.Module, batch: MicroBatch, head: Head | None, *, device: torch.device
    ) -> torch.Tensor:
        """Return the logits (n, vocabulary) of the tokens with loss, or the inputs of `head`."""
        ids, predict = sent(batch.input_ids, device), sent(batch.predict, device)
        if self.bare:
            logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0, predict]
            return logits
        layout: dict[str, Any] = {}
        if self.packed_attention:
            layout = told_lengths(batch.lengths, shared_prefix=batch.shared_prefix, device=device)
        with head.left_out() if head is not None else nullcontext():
            output: torch.Tensor = model(
                input_ids=ids,
                position_ids=sent(batch.position_ids, device),
                logits_to_keep=predict,
                use_cache=False,
                **layout,
            ).logits[0]
        return output
