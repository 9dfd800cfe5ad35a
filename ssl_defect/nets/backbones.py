"""Backbones: pictures in [0, 1] go in, pooled features or maps come out. Nothing else imports timm, and this late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ssl_defect.errors import UserError, nearest
from ssl_defect.nets.depthwise import quicken


class Encoder(nn.Module):
    """A timm backbone without its classifier.

    Grey pictures are repeated to three channels and all are normalised with the backbone's own mean and standard
    deviation inside, so that nothing outside needs to know them.

    Plain ViTs that were published with a class token are pooled by the mean of their patch tokens: masked
    pretraining gives the class token no target (He et al. 2022, A.1, find both poolings equal after fine-tuning).

    Attributes:
        name: timm's name of the model.
        image_size: side of the square picture, in pixels.
        width: number of pooled features.
        map_width: channels of `last_map`.
        channels: channels of each map of `pyramid`.
        reductions: stride of each map of `pyramid`, ascending.
        is_vit: a plain vision transformer: one stride, patches cut by one convolution.
        body: the timm model.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, image_size: int) -> None:
        super().__init__()
        self.name = name
        self.image_size = image_size
        self.body = _create(name, image_size)
        config = self.body.pretrained_cfg
        self.register_buffer("mean", torch.tensor(config["mean"]).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config["std"]).view(1, -1, 1, 1), persistent=False)
        strides = [stage["reduction"] for stage in _stages(self.body)]
        columnar = len(strides) > 4 and len(set(strides)) == 1
        self.is_vit = columnar and _is_plain_vit(self.body)
        self._indices = [(i + 1) * len(strides) // 4 - 1 for i in range(4)] if columnar else list(range(len(strides)))
        self._mean_tokens = self.is_vit and self.body.global_pool == "token"
        self.reductions = [strides[i] for i in self._indices]
        self.width, self.map_width, self.channels = self._measure()

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features (B, width) of pictures (B, 1 or 3, H, W) in [0, 1]."""
        x = self.prepare_input(x)
        if not self._mean_tokens:
            pooled: Tensor = self.body(x)
            return pooled
        tokens: Tensor = self.body.forward_features(x)
        return tokens[:, self.body.num_prefix_tokens :].mean(dim=1)

    def pyramid(self, x: Tensor) -> list[Tensor]:
        """Maps (B, channels[i], H / reductions[i], W / reductions[i]), fine to coarse.

        A plain ViT gives four evenly spaced blocks, all at the stride of its patches.
        """
        x = self.prepare_input(x)
        maps: list[Tensor] = self.body.forward_intermediates(x, indices=self._indices, intermediates_only=True)
        return maps

    def maps(self, x: Tensor, levels: Sequence[int]) -> list[Tensor]:
        """Of `pyramid` those of the levels, fine to coarse; stages behind the coarsest of them are not computed."""
        indices = [self._indices[level] for level in sorted(levels)]
        maps: list[Tensor] = self.body.forward_intermediates(
            self.prepare_input(x), indices=indices, stop_early=True, intermediates_only=True
        )
        return maps

    def maps_and_features(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """What `pyramid` and `forward` give, in one pass."""
        last, maps = self.body.forward_intermediates(self.prepare_input(x), indices=self._indices)
        if self._mean_tokens:
            return maps, last[:, self.body.num_prefix_tokens :].mean(dim=1)
        return maps, self.body.forward_head(last)

    def visible_tokens(self, x: Tensor, kept: Tensor) -> Tensor:
        """Tokens (B, prefix + K, D) of a plain ViT that sees only the patches `kept` (B, K), numbered in reading order.

        Only these pass through the blocks: the asymmetric encoder of He et al. 2022, section 3.
        """
        body = self.body
        tokens: Tensor = body._pos_embed(body.patch_embed(self.prepare_input(x)))
        prefix = body.num_prefix_tokens
        chosen = (kept + prefix).unsqueeze(2).expand(-1, -1, tokens.shape[2])
        tokens = torch.cat([tokens[:, :prefix], tokens.gather(1, chosen)], dim=1)
        seen: Tensor = body.norm(body.blocks(body.norm_pre(tokens)))
        return seen

    def masked_tokens(self, x: Tensor, hidden: Tensor, token: Tensor) -> Tensor:
        """Patch tokens (B, N, D) of a plain ViT in which `token` (1, 1, D) stands for the patches `hidden` (B, N) bool.

        All patches pass through the blocks, as in BEiT (Bao et al. 2022, section 2.3) and SimMIM (Xie et al. 2022).
        """
        body = self.body
        patches = body.patch_embed(self.prepare_input(x))
        covered = hidden.view(*patches.shape[:-1], 1)
        tokens: Tensor = body._pos_embed(torch.where(covered, token.to(patches.dtype).view(1, 1, 1, -1), patches))
        seen: Tensor = body.norm(body.blocks(body.norm_pre(tokens)))
        return seen[:, body.num_prefix_tokens :]

    @torch.no_grad()
    def accepts(self, size: int) -> bool:
        """Whether pictures of `size` pixels can go in beside those of `image_size`, as multi-crop needs."""
        training = self.training
        self.eval()
        try:
            self(torch.zeros(1, 3, size, size, device=self.mean.device))
        except (AssertionError, RuntimeError, ValueError):
            return False
        finally:
            self.train(training)
        return True

    def last_map(self, x: Tensor) -> Tensor:
        """The map (B, map_width, h, w) just before pooling; it passes through every layer but the pooling head."""
        return self.map_of(self.body.forward_features(self.prepare_input(x)))

    def map_of(self, features: Tensor) -> Tensor:
        """What `body.forward_features` gave, as a map (B, D, h, w): prefix tokens dropped, channels first."""
        if features.ndim == 3:
            tokens = features[:, getattr(self.body, "num_prefix_tokens", 0) :]
            side = round(tokens.shape[1] ** 0.5)
            return tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
        if getattr(self.body, "output_fmt", "NCHW") == "NHWC":
            return features.permute(0, 3, 1, 2)
        return features

    def prepare_input(self, x: Tensor) -> Tensor:
        """Pictures (B, 1 or 3, H, W) in [0, 1], normalised, with three channels."""
        return (x - self.mean) / self.std

    @torch.no_grad()
    def _measure(self) -> tuple[int, int, list[int]]:
        training = self.training
        self.eval()
        picture = torch.zeros(1, 3, self.image_size, self.image_size)
        width, last, maps = self(picture).shape[1], self.last_map(picture), self.pyramid(picture)
        self.train(training)
        return width, last.shape[1], [m.shape[1] for m in maps]


def build_encoder(name: str, image_size: int) -> Encoder:
    """An encoder with random weights, drawn from torch's global seed.

    Raises:
        UserError: timm knows no such model, it gives no feature maps, or it cannot take pictures of that size.
    """
    return Encoder(name, image_size)


def uses_depthwise(module: nn.Module) -> bool:
    """Whether most of the module's convolutions with a kernel above 1 are depthwise (no gain by bfloat16 on a CPU)."""
    spatial = [m for m in module.modules() if isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1]
    return sum(m.groups == m.in_channels for m in spatial) * 2 > len(spatial)


def is_convolutional(module: nn.Module) -> bool:
    """Whether the module has a spatial convolution behind its first layer (it gains by the channels-last layout)."""
    return sum(isinstance(m, nn.Conv2d) and max(m.kernel_size) > 1 for m in module.modules()) > 1


def layer_depths(encoder: Encoder) -> dict[str, int]:
    """Depth of the layer of each of the encoder's parameters by name: 0 for the stem, one more for every block.

    All are at depth 0 where timm does not tell the layers of the body apart.
    """
    from timm.models import group_parameters

    matcher = getattr(encoder.body, "group_matcher", None)
    depths: dict[str, int] = group_parameters(encoder.body, matcher(coarse=False), reverse=True) if matcher else {}
    last = max(depths.values(), default=0)
    return {name: depths.get(name.removeprefix("body."), last) for name, _ in encoder.named_parameters()}


def pretrained_state(name: str) -> dict[str, Tensor]:
    """Weights of the timm hub for a model, as `body.state_dict()` without classifier; needs the network or a cache."""
    import timm

    state: dict[str, Tensor] = timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    return state


def _create(name: str, image_size: int) -> Any:
    import timm

    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        known = timm.list_models()
        raise UserError(
            f"model.backbone: timm knows no model '{name}'{nearest(architecture, known)}; names are those of timm, "
            "such as resnet18, efficientnet_b0, vit_tiny_patch16_224"
        )
    config = timm.get_pretrained_cfg(name)
    size = {"img_size": image_size} if config is not None and config.fixed_input_size else {}
    try:
        body = timm.create_model(name, pretrained=False, num_classes=0, **size)
        if _is_plain_vit(body):
            _take_any_size(body)
    except (AssertionError, ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"model.backbone: {name} cannot take pictures of {image_size} pixels ({error})") from error
    _check_size(body, name, image_size)
    return quicken(body)


def _is_plain_vit(body: Any) -> bool:
    from timm.layers import PatchEmbed
    from timm.models.vision_transformer import VisionTransformer

    return isinstance(body, VisionTransformer) and type(body.patch_embed) is PatchEmbed


def _take_any_size(body: Any) -> None:
    """Let a plain ViT interpolate its positions where a picture is of another size; nothing changes at its own."""
    from timm.layers import Format

    body.dynamic_img_size = True
    body.patch_embed.flatten, body.patch_embed.output_fmt = False, Format.NHWC
    body.patch_embed.strict_img_size = False


def _check_size(body: Any, name: str, image_size: int) -> None:
    from timm.models.vision_transformer import VisionTransformer

    if not hasattr(body, "forward_intermediates"):
        raise UserError(f"model.backbone: {name} gives no feature maps; take a ResNet, EfficientNet, ConvNeXt or ViT")
    patch = getattr(getattr(body, "patch_embed", None), "patch_size", None)
    patch = patch[0] if isinstance(patch, tuple) else patch
    if isinstance(body, VisionTransformer) and patch and image_size % patch:
        raise UserError(
            f"data.image_size: {image_size} is no multiple of the {patch}-pixel patches of {name}; "
            f"take {image_size // patch * patch or patch} or {(image_size // patch + 1) * patch}"
        )


def _stages(body: Any) -> list[dict[str, Any]]:
    info = body.feature_info
    return list(info) if isinstance(info, list) else list(info.info)
