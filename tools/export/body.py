"""EfficientNet-Lite's convolutions with padding that is known before a picture is: a traced graph then has no formulas.

TensorFlow's padding "same" depends on a map's size. Canvases are multiples of 32, so every map is a multiple of the
stride of the convolution that reads it, and the padding is kernel - stride at both sides together, whatever the size.
"""

from __future__ import annotations

import copy
from typing import TypeVar

from jaxtyping import Float
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from src.detector.depthwise import Depthwise

Module = TypeVar("Module", bound=nn.Module)


class PaddedConvolution(nn.Module):
    """The same numbers as `convolution` on maps whose sides are multiples of its stride.

    Args:
        convolution: with padding "same", a square kernel and one stride.
    """

    def __init__(self, convolution: Depthwise | Conv2dSame) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias
        self.stride = convolution.stride if isinstance(convolution.stride, int) else convolution.stride[0]
        self.groups = self.weight.shape[0] // self.weight.shape[1] if self.weight.shape[1] == 1 else 1
        total = max(self.weight.shape[-1] - self.stride, 0)
        self.padding = [total // 2, total - total // 2] * 2

    def forward(self, features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h2 w2"]:
        """Convolved; h2 = h / stride."""
        return F.conv2d(F.pad(features, self.padding), self.weight, self.bias, self.stride, groups=self.groups)


def with_fixed_padding(module: Module) -> Module:
    """A copy of a network whose convolutions with padding "same" are padded by fixed amounts."""
    changed = copy.deepcopy(module)
    for name, part in list(changed.named_modules()):
        if isinstance(part, Depthwise | Conv2dSame):
            parent, _, attribute = name.rpartition(".")
            setattr(changed.get_submodule(parent), attribute, PaddedConvolution(part))
    return changed
