"""What the workers of a torch loop do together between its steps: what of it knows tensors and modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from loosestep.runtime.agreement.together import Together
from loosestep.torch.agreement.copied_arguments import Copies
from loosestep.torch.agreement.tensors import foreign
from loosestep.torch.hooks import check_shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from torch import nn

    from loosestep.torch.flat import Layout

Answer = TypeVar("Answer")


class TorchTogether(Together):
    """Calls by which workers agree, where values may be tensors and the consensus is shown by a module."""

    size: int
    layouts: Sequence[Layout]
    _models: Callable[[], Sequence[nn.Module]]
    consensus: Callable[[], AbstractContextManager[nn.Module]]
    _foreign = staticmethod(foreign)

    def once(
        self, action: Callable[..., Answer], *arguments: Any, everywhere: bool = False, **keywords: Any
    ) -> Answer | None:
        """Return rank 0's `action(*arguments, **keywords)`, called at the consensus; None on other ranks.

        It is for what is evaluated or saved once; print under `if optimizer.rank == 0`, which costs nothing. Where
        the strategy's consensus is collective, all workers call it at one step. Arguments that look at the model's
        memory, as `model.state_dict()` does, show the consensus too. A copy would be made before it: pass a
        function that makes it, as in once(lambda: send(model.state_dict())).

        everywhere: return rank 0's answer (pickled on the way) on all workers, which wait for it, and raise on all
            where it fails. So all see one score, also where each would find another center.
        """
        if self.size > 1:
            check_shown(self._models(), self.layouts)
        copies = Copies(self.layouts, arguments, keywords)
        if everywhere:
            return self._once_everywhere(self.consensus, lambda model: copies.checked(action))
        if self.rank != 0 and self.loop.program.one_sided():
            return None
        answer: Answer | None = None
        with self.agreement.call("once()"), self.consensus():
            if self.rank == 0:
                answer = copies.checked(action)
        return answer
