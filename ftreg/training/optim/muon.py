"""Muon for hidden matrices and AdamW for everything else, as one optimizer."""

from collections.abc import Callable, Iterable
from typing import Any

import torch


class MuonAndAdamW(torch.optim.Optimizer):
    """torch's Muon and AdamW, which share their groups and state with this optimizer.

    Schedules, accelerate and saved states see a single optimizer, with Muon's groups first.

    Args:
        params: torch's parameter groups; those with `"algorithm": "adamw"` go to AdamW, all others
            to Muon.
        adamw_lr: AdamW's learning rate for groups that do not set one; likewise for the next three.
        adamw_weight_decay: AdamW's decoupled decay.
        adamw_betas: AdamW's decay rates.
        adamw_eps: AdamW's epsilon.
        muon: the arguments of `torch.optim.Muon`.

    Raises:
        ValueError: torch rejects an argument, or Muon a tensor that is not a matrix.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        adamw_lr: float,
        adamw_weight_decay: float,
        adamw_betas: tuple[float, float],
        adamw_eps: float,
        **muon: Any,
    ) -> None:
        # The constructors append these same objects, so that all three optimizers share them.
        given = list(params)
        plain = [item for item in given if not isinstance(item, dict)]
        groups = [{"params": plain}] if plain else given
        rest = [group for group in groups if group.get("algorithm") == "adamw"]
        matrices = [group for group in groups if group.get("algorithm") != "adamw"]
        self._muon = torch.optim.Muon(matrices, **muon)
        self._adamw = None
        if rest:
            self._adamw = torch.optim.AdamW(
                rest,
                lr=adamw_lr,
                weight_decay=adamw_weight_decay,
                betas=adamw_betas,
                eps=adamw_eps,
            )
        super().__init__([*matrices, *rest], {})
        self._share()

    def _share(self) -> None:
        count = len(self._muon.param_groups)
        self._muon.param_groups, self._muon.state = self.param_groups[:count], self.state
        if self._adamw is not None:
            self._adamw.param_groups, self._adamw.state = self.param_groups[count:], self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state; torch replaces groups and state, so they are shared again."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step with both optimizers."""
        loss: float | None = self._muon.step(closure)  # type: ignore[no-untyped-call]
        if self._adamw is not None:
            self._adamw.step()
        return loss
