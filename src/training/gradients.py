"""Which loss pulls at shared layers: the size of each weighted term's gradient there, and its share of all.

Losses that share no layer cannot disturb each other, whatever their weights: an optimizer that scales each parameter's
step by itself, as AdamW does, cancels a constant factor. Weights act where several losses meet, and this is how much
each of them has to say there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from src.training.history import Row


@dataclass(frozen=True)
class GradientProbe:
    """When and where gradients are compared.

    Attributes:
        parameters: of the layers that losses share; only those that learn count.
        interval: iterations from one measurement to the next; 0 for none.
    """

    parameters: Sequence[nn.Parameter]
    interval: int

    def is_due(self, iteration: int) -> bool:
        """Whether this iteration of a phase, counted from 0, is measured."""
        return bool(self.interval and iteration % self.interval == 0 and self._learning())

    def measure(
        self,
        terms: Mapping[str, Tensor],
        weights: Mapping[str, float],
        mean: Callable[[Tensor], Tensor] = lambda own: own,
    ) -> Row:
        """Each term's norm (`<term>_norm`) and its share of the norms' sum (`<term>`), 0 to 1.

        Nothing is accumulated, and the graph stays for the step's own backward pass.

        Args:
            terms: raw losses of this iteration.
            weights: of each.
            mean: of a tensor over all processes; all of them measure at once.
        """
        norms = {name: weights[name] * self._norm(term, mean) if weights[name] else 0.0 for name, term in terms.items()}
        total = sum(norms.values())
        shares = {name: norm / total if total else 0.0 for name, norm in norms.items()}
        return {**shares, **{f"{name}_norm": norm for name, norm in norms.items()}}

    def _learning(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters if parameter.requires_grad]

    def _norm(self, term: Tensor, mean: Callable[[Tensor], Tensor]) -> float:
        """The gradient's Euclidean norm over all shared parameters; 0 where the term does not reach them."""
        learning = self._learning()
        if term.requires_grad:
            found = torch.autograd.grad(term, learning, retain_graph=True, allow_unused=True, materialize_grads=True)
        else:
            found = tuple(torch.zeros_like(parameter) for parameter in learning)
        return float(torch.stack([mean(part.float()).norm() for part in found]).norm())
