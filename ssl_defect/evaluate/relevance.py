"""Where a vision transformer looks: relevance of its patches, from its attention and the gradients of it.

Chefer, Gur, Wolf, Generic attention-model explainability, ICCV 2021 (arXiv:2103.15679).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ssl_defect.evaluate.gradcam import defective_logit
from ssl_defect.evaluate.metrics import Array
from ssl_defect.nets.detector import Detector

LARGEST = 500_000_000  # numbers in all attention matrices of one picture; beyond it, memory would run out


def relevance(detector: Detector, x: Tensor) -> Array | None:
    """Relevance of pictures (B, C, S, S) in [0, 1]: float32 (B, S, S), each scaled to [0, 1].

    None where the encoder is no plain ViT, or its attention is too large to be held. Picture by picture, in float32
    arithmetic, and the detector is left as it was.
    """
    blocks = attention_blocks(detector)
    if not blocks or _numbers(detector, blocks) > LARGEST:
        return None
    prefix = detector.encoder.body.num_prefix_tokens
    maps = [enlarged(_tokens(detector, blocks, picture[None])[prefix:], x.shape[-1]) for picture in x]
    return np.stack(maps)


def rollout(attentions: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Equations 5 and 6 of the paper: `R = I`, then for each block `R += mean over heads of max(0, dA * A) R`.

    Args:
        attentions: of each block in order (H, N, N), rows are queries and sum to 1.
        gradients: of what is explained, by each of them.

    Returns:
        (N, N): row i holds what each token at the input adds to token i at the output.
    """
    found = torch.eye(attentions[0].shape[-1], dtype=attentions[0].dtype, device=attentions[0].device)
    for attention, gradient in zip(attentions, gradients, strict=True):
        found = found + (attention * gradient).clamp(min=0).mean(0) @ found
    return found


def normalised(relevances: Tensor) -> Tensor:
    """Equations 8 and 9: what a token gathered from others sums to 1, as does what it has of its own.

    Without it the size of the logit would decide how much of each there is.
    """
    own = torch.eye(len(relevances), dtype=relevances.dtype, device=relevances.device)
    gathered = relevances - own
    return gathered / gathered.sum(1, keepdim=True).clamp(min=torch.finfo(gathered.dtype).tiny) + own


def read_by_head(gradients: Tensor) -> Tensor:
    """How much the head reads of each token: (N,) >= 0 with sum 1, as the length of the gradient (N, D) by that token.

    A head that reads the class token alone gives it all, which is the paper's case. One that pools the patches gives
    each the same: the mean over them as queries. A decoder gives most to those behind the pixels that are explained.
    What each token itself says (token times gradient) would mislead: in a ViT that has learned the good patches, which
    attend to the defect, may speak for it (experiments/where_it_looks.py).
    """
    weights: Tensor = torch.linalg.vector_norm(gradients, dim=1)
    return weights / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


def _tokens(detector: Detector, blocks: list[Any], picture: Tensor) -> Tensor:
    """Relevance (N,) of every token for one picture (1, C, S, S)."""
    x = picture.detach().clone().requires_grad_()  # so that a frozen encoder still passes gradients on
    with torch.enable_grad(), exposed(detector, blocks) as (attentions, tokens):
        explained = defective_logit(detector(x)["logits"][0].float())
        found = torch.autograd.grad(explained, [*attentions, *tokens], allow_unused=True)
    slopes, ends = found[: len(attentions)], found[len(attentions) :]
    # behind the last norm where the head reads them there: before it, the gradient also tells how long a token is
    end = next(g for g in reversed(ends) if g is not None)
    pairs = [(a, g) for a, g in zip(attentions, slopes, strict=True) if g is not None]
    # a pair passes through the encoder as two pictures, the reference behind
    relevances = normalised(rollout([a[0].detach() for a, _ in pairs], [g[0] for _, g in pairs]))
    return read_by_head(end[0]) @ relevances


@contextmanager
def exposed(detector: Detector, blocks: list[Any]) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Attention in plain arithmetic, so that its matrices exist; they, and the tokens of the end, go to two lists."""
    body = detector.encoder.body
    attentions: list[Tensor] = []
    tokens: list[Tensor] = []
    fused = [module.fused_attn for module in blocks]
    drops = [module.get_submodule("attn_drop") for module in blocks]
    handles = [drop.register_forward_hook(lambda _, __, output: attentions.append(output)) for drop in drops]
    handles += [
        end.register_forward_hook(lambda _, __, output: tokens.append(output)) for end in (body.blocks[-1], body.norm)
    ]
    try:
        for module in blocks:
            module.fused_attn = False
        yield attentions, tokens
    finally:
        for handle in handles:
            handle.remove()
        for module, before in zip(blocks, fused, strict=True):
            module.fused_attn = before


def attention_blocks(detector: Detector) -> list[Any]:
    """The attention of every block of a plain ViT; empty for others, or where its matrices cannot be had."""
    if not detector.encoder.is_vit:
        return []
    found = [getattr(block, "attn", None) for block in detector.encoder.body.blocks]
    whole = all(hasattr(module, "fused_attn") and hasattr(module, "attn_drop") for module in found)
    return [module for module in found if module is not None] if whole else []


def _numbers(detector: Detector, attentions: list[Any]) -> int:
    body = detector.encoder.body
    tokens = body.patch_embed.num_patches + body.num_prefix_tokens
    return int(sum(module.num_heads for module in attentions) * tokens**2)


def enlarged(relevances: Tensor, size: int) -> Array:
    """Relevance (N,) of patches in reading order as a picture: float32 (size, size), scaled to [0, 1]."""
    side = round(len(relevances) ** 0.5)
    small = relevances.reshape(1, 1, side, side)
    large = functional.interpolate(small, size=(size, size), mode="bilinear")[0, 0]
    low, high = large.min(), large.max()
    scaled: Array = ((large - low) / (high - low).clamp(min=1e-12)).cpu().numpy().astype(np.float32)
    return scaled
