"""Adam, on the fused kernel of torch.

``torch.optim.Adam`` calls the same kernel, but the first optimizer of a process imports torch's compiler,
which takes about as long as a short fit.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

BETAS, EPSILON = (0.9, 0.999), 1e-8  # as proposed by Kingma & Ba 2015, arXiv:1412.6980


class Adam:
    """The optimizer of Kingma & Ba 2015, arXiv:1412.6980.

    Parameters
    ----------
    parameters
        The parameters to optimize, of one type and on one device.

    Attributes
    ----------
    moments
        For each parameter that ever had a gradient, by its number: the number of steps taken as ``step``, and
        the running means of the gradient and of its square, ``exp_avg`` and ``exp_avg_sq``.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.moments: dict[int, dict[str, Tensor]] = {}

    def forget_gradients(self) -> None:
        """Remove all gradients, so that the next ones are not added to them."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Take a step along the gradients; parameters without one stay as they are."""
        moved = [(i, one, one.grad) for i, one in enumerate(self.parameters) if one.grad is not None]
        if not moved:
            return
        for i, one, _ in moved:
            if i not in self.moments:
                step = torch.zeros((), dtype=torch.float32, device=one.device)
                zeros = {name: torch.zeros_like(one) for name in ("exp_avg", "exp_avg_sq")}
                self.moments[i] = {"step": step} | zeros
        steps, means, squares = (
            [self.moments[i][name] for i, _, _ in moved] for name in ("step", "exp_avg", "exp_avg_sq")
        )
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            [one for _, one, _ in moved], [gradient for *_, gradient in moved], means, squares, [], steps,
            lr=learning_rate, beta1=BETAS[0], beta2=BETAS[1], weight_decay=0.0, eps=EPSILON, amsgrad=False,
            maximize=False,
        )  # fmt: skip
