"""Relevance of a ViT's patches: one block by hand, a head of one patch, and what must be left as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ssl_defect.evaluate import relevance as module
from ssl_defect.evaluate.relevance import normalised, read_by_head, relevance, rollout
from ssl_defect.nets.backbones import build_encoder
from ssl_defect.nets.detector import Detector, Spec

OPTIONS = {
    "classification": {"dropout": 0.0},
    "segmentation": {"decoder_width": 8, "score_share": 0.01},
}
SIZE, SIDE = 64, 4  # pixels, patches


def _detector(task="classification", backbone="test_vit"):
    torch.manual_seed(0)
    spec = Spec(task, backbone, SIZE, 1, ["good", "defective"], OPTIONS[task])
    return Detector(build_encoder(backbone, SIZE), spec).eval()


def test_one_block_by_hand():
    attention = torch.tensor([[[0.5, 0.5], [0.2, 0.8]], [[0.9, 0.1], [1.0, 0.0]]])
    gradient = torch.tensor([[[2.0, -1.0], [0.0, 1.0]], [[0.0, 4.0], [-3.0, 5.0]]])
    # positive products: head 1 [[1, 0], [0, .8]], head 2 [[0, .4], [0, 0]]; their mean is added to the identity
    once = rollout([attention], [gradient])
    assert torch.allclose(once, torch.tensor([[1.5, 0.2], [0.0, 1.4]]))
    twice = rollout([attention, attention], [gradient, gradient])
    mean = torch.tensor([[0.5, 0.2], [0.0, 0.4]])
    assert torch.allclose(twice, once + mean @ once)
    # of what token 0 gathered, 0.5 of 0.7 is its own; token 1 gathered from itself alone
    assert torch.allclose(normalised(once), torch.tensor([[1 + 5 / 7, 2 / 7], [0.0, 2.0]]))
    assert torch.allclose(normalised(torch.eye(2)), torch.eye(2))


def test_what_the_head_reads():
    assert read_by_head(torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -15.0]])).tolist() == [0.25, 0.0, 0.75]
    assert read_by_head(torch.zeros(2, 2)).tolist() == [0.0, 0.0]


def test_a_head_that_pools_patches_reads_them_all_alike(monkeypatch):
    detector, read = _detector(), []
    monkeypatch.setattr(module, "read_by_head", lambda g: read.append(read_by_head(g)) or read[-1])
    relevance(detector, torch.rand(1, 1, SIZE, SIZE))
    prefix, patches = detector.encoder.body.num_prefix_tokens, SIDE**2
    assert torch.allclose(read[0], torch.tensor([0.0] * prefix + [1 / patches] * patches), atol=1e-5)


class _OnePatch(nn.Module):
    """A head that reads one token."""

    def __init__(self, place, width):
        super().__init__()
        self.place = place
        self.weight = nn.Parameter(torch.randn(width))

    def forward(self, encoder, x):
        tokens = encoder.body.forward_features(encoder.prepare_input(x))
        logit = tokens[:, self.place] @ self.weight
        return {"logits": torch.stack([torch.zeros_like(logit), logit], dim=1)}


@pytest.mark.parametrize("place", [0, 6, 15])
def test_the_one_patch_that_the_head_reads_is_the_most_relevant(place):
    detector = _detector()
    detector.head = _OnePatch(place + detector.encoder.body.num_prefix_tokens, detector.encoder.width)
    (found,) = relevance(detector, torch.rand(1, 1, SIZE, SIZE))
    patches = found.reshape(SIDE, SIZE // SIDE, SIDE, SIZE // SIDE).mean((1, 3))
    assert patches.argmax() == place
    assert np.unravel_index(found.argmax(), found.shape)[0] * SIDE // SIZE == place // SIDE


def test_a_class_token_is_explained_as_in_the_paper():
    """Attention and its gradients are taken in another way: by the weights of q and k, and by finite differences."""
    torch.manual_seed(1)
    detector = _detector()
    body = detector.encoder.body
    body.blocks = body.blocks[:1]
    detector.head = _OnePatch(0, detector.encoder.width)
    detector.double()
    x = torch.rand(1, 1, SIZE, SIZE, dtype=torch.float64)
    attend, seen = body.blocks[0].attn, {}
    attend.register_forward_hook(lambda _, inputs, __: seen.update(tokens=inputs[0]))

    def by_hand(tokens, shift=None):
        count = tokens.shape[1]
        q, k, v = attend.qkv(tokens).reshape(count, 3, attend.num_heads, -1).permute(1, 2, 0, 3)
        weights = ((q @ k.transpose(1, 2)) / q.shape[-1] ** 0.5).softmax(-1)
        if shift is not None:
            weights = weights + shift
        return weights, attend.proj((weights @ v).transpose(0, 1).reshape(1, count, -1))

    with torch.no_grad():
        detector(x)
        attention, _ = by_hand(seen["tokens"])
        gradient, step = torch.zeros_like(attention), 1e-5
        for head in range(len(attention)):
            for key in range(attention.shape[2]):  # only the class token is read, so only its row has a gradient
                sides = []
                for sign in (1, -1):
                    shift = torch.zeros_like(attention)
                    shift[head, 0, key] = sign * step
                    handle = attend.register_forward_hook(lambda _, inputs, __, s=shift: by_hand(inputs[0], s)[1])
                    logits = detector(x)["logits"][0]
                    sides.append(logits[1] - logits[0])
                    handle.remove()
                gradient[head, 0, key] = (sides[0] - sides[1]) / (2 * step)
    expected = (attention * gradient).clamp(min=0).mean(0)[0, body.num_prefix_tokens :]
    found = module._tokens(detector, [attend], x)[body.num_prefix_tokens :]
    assert expected.max() > 0
    assert torch.allclose(found / found.sum(), expected / expected.sum(), atol=1e-6)


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_maps_in_range_that_do_not_depend_on_the_batch(task):
    detector = _detector(task)
    for parameter in detector.encoder.parameters():
        parameter.requires_grad_(False)
    x = torch.rand(3, 1, SIZE, SIZE)
    with torch.no_grad():
        before = detector(x)["logits"]
    fused = [block.attn.fused_attn for block in detector.encoder.body.blocks]
    found = relevance(detector, x)
    assert found.shape == (3, SIZE, SIZE)
    assert found.dtype == np.float32
    assert (found.min(), found.max()) == (0, 1)
    assert np.allclose(relevance(detector, x[1:2])[0], found[1], atol=1e-6)
    assert [block.attn.fused_attn for block in detector.encoder.body.blocks] == fused
    assert all(parameter.grad is None for parameter in detector.parameters())
    assert not any(child._forward_hooks for child in detector.modules())
    with torch.no_grad():
        assert torch.equal(detector(x)["logits"], before)


def test_fused_or_not_the_detector_says_the_same():
    detector = _detector()
    x = torch.rand(2, 1, SIZE, SIZE)
    with torch.no_grad(), module.exposed(detector, module.attention_blocks(detector)) as (attentions, _):
        plain = detector(x)["logits"]
        assert all(torch.allclose(one.sum(-1), torch.ones(()), atol=1e-5) for one in attentions)
        assert len(attentions) == len(detector.encoder.body.blocks)
    with torch.no_grad():
        assert torch.allclose(detector(x)["logits"], plain, atol=1e-5)


def test_only_plain_vits_of_a_size_that_memory_holds(monkeypatch):
    assert relevance(_detector(backbone="test_resnet"), torch.rand(1, 1, SIZE, SIZE)) is None
    monkeypatch.setattr(module, "LARGEST", 100)
    assert relevance(_detector(), torch.rand(1, 1, SIZE, SIZE)) is None


def test_an_exception_leaves_the_attention_as_it_was():
    detector = _detector()
    with pytest.raises(RuntimeError):
        relevance(detector, torch.rand(1, 2, SIZE, SIZE))
    assert all(block.attn.fused_attn for block in detector.encoder.body.blocks)
    assert not any(child._forward_hooks for child in detector.modules())
