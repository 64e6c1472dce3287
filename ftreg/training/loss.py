"""How a model takes a step's examples, and the loss of what it makes of them."""

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
    """The loss of a step's answers, by one way to lay examples out and to put them to a model.

    All that runs the model in training uses the same one, so that what was proven is what trains.
    By itself it is plain transformers: each example in a row of its own, the model's own attention
    and torch's cross-entropy.

    `row_tokens` are the most tokens of a row that examples share; 0 gives each its own.
    `packed_attention` says that the model has been switched to it, and wants the examples' lengths.
    `share_prefix`, which it takes to do so, puts what all examples of a step begin with into a row
    once. `head` applies the output layer to many positions. `bare` gives the model nothing but
    token ids, and takes the logits of all positions, where it knows of nothing else.
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
        """Return this process's micro-batches of rows that all processes share.

        Each has its weight in the sum: 0 for what a process without an example of its own, or with
        fewer micro-batches than another, goes through for company's sake.
        """
        workers = accelerator.num_processes
        own = rows[accelerator.process_index :: workers]
        # A process without an example still has to take part in the gradients' exchange.
        weight = 1.0 if own else 0.0
        batches = self.lay_out(own or rows[:1], examples)
        found = [(batch, weight) for batch in batches]
        if accelerator.is_fsdp2:
            # Where parameters are sharded every pass gathers them from all processes.
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

        The language-model head runs at the positions that carry loss only: `logits_to_keep` takes
        their indices. Many of them go through `head` in chunks; all of them, if it computes its
        loss by itself. There is no attention mask: either `packed_attention` is told the examples'
        lengths, or positions that start again at 0 tell transformers where an example begins, and
        its causal mask becomes block-diagonal.
        """
        targets = sent(batch.targets, device)
        head = self.head if self.head is not None and self.head.takes(targets) else None
        output = self._output(model, batch, head, device=device)
        if head is not None:
            return head.loss(output, targets)
        return functional.cross_entropy(output.float(), targets, reduction="sum")

    def of_tokens(self, model: Any, batch: MicroBatch) -> torch.Tensor:
        """Return the negative log-likelihood of each of a micro-batch's tokens with loss, (n,)."""
        output = self._output(model, batch, self.head, device=model.device)
        logits = output if self.head is None else self.head.logits(output)
        targets = batch.targets.to(model.device)
        return functional.cross_entropy(logits.float(), targets, reduction="none")

    def _output(
        self, model: nn.Module, batch: MicroBatch, head: Head | None, *, device: torch.device
    ) -> torch.Tensor:
        """Return the logits of the tokens with loss (n, vocabulary), or what the head is given."""
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
