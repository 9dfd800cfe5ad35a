"""BEiT (Bao, Dong, Piao, Wei: BEiT, BERT pre-training of image transformers, 2022).

A tokenizer turns each patch into one of a few hundred codes, and a ViT that sees the picture with blocks of patches
hidden says which codes lie under them. The paper takes the tokenizer of DALL-E, trained on 250 million pictures of
the web; here a small one is trained on the set itself before BEiT begins, and stands still from then on.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ssl_defect.console import say
from ssl_defect.data.augment import to_float
from ssl_defect.errors import UserError
from ssl_defect.nets.backbones import Encoder
from ssl_defect.nets.patches import block_mask, cover, hidden_count
from ssl_defect.nets.tokenizer import DiscreteVAE, code_shares, gumbel_softmax, perplexity, standardise
from ssl_defect.pretrain.base import Facts, Method, Views, gather, refuse
from ssl_defect.pretrain.masking import PLAIN, check_sizes
from ssl_defect.pretrain.views import GeometrySettings, placed
from ssl_defect.train.plan import Batch

FEW = 4.0  # codes in use below which there is nothing to predict
BLIND = 0.9  # error of the tokenizer above which its codes say next to nothing of the patches


class Options(GeometrySettings):
    """Settings of BEiT and of its tokenizer."""

    mask_ratio: float = Field(
        0.4, gt=0, lt=1, description="Share of the patches that is hidden, in blocks: the published 0.4."
    )
    codes: int = Field(
        256,
        ge=8,
        description="Words of the tokenizer. The published 8192 are for pictures of everything; a part shows a few "
        "dozen kinds of patches, and a code seen twice cannot be learned.",
    )
    tokenizer_epochs: int | None = Field(
        None,
        ge=1,
        description="Passes over the images by which the tokenizer is trained first; each is a cheap one. Left out: "
        "30, or on a small set as many as make 400 steps, from which on its error falls slowly.",
    )
    tokenizer_width: int = Field(64, ge=16, multiple_of=8, description="Of the tokenizer's convolutions.")
    diversity: float = Field(
        0.1,
        ge=0,
        description="Weight of the tokenizer's use of all its codes beside its error, which is 1 where it paints "
        "nothing. Patches of one part are alike, and without it a handful of codes takes them all.",
    )


class Tokenizer(nn.Module):
    """The discrete VAE and how it is trained, as the loop wants it."""

    def __init__(self, options: Options, channels: int, patch: int) -> None:
        super().__init__()
        self.options = options
        self.net = DiscreteVAE(channels, patch, options.codes, options.tokenizer_width)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Loss; "error" of the pictures painted from codes, 1 where nothing is painted; "codes" in use."""
        images = placed(to_float(batch["image"]), batch["generator"], self.options)
        wanted = standardise(images)[0]
        logits = self.net.logits(wanted)
        relaxed = gumbel_softmax(logits, gumbel_temperature(progress), batch["generator"])
        error = (self.net.paint(relaxed).float() - wanted).square().mean()
        loss = error + self.options.diversity * unused_codes(logits)
        shares = code_shares(logits.argmax(dim=1), self.options.codes)
        return {"loss": loss, "error": error, "codes": perplexity(shares)}


class BEiT(Method):
    """The codes of hidden patches are predicted from the visible ones."""

    title: ClassVar[str] = "BEiT"
    logs: ClassVar[dict[str, str]] = {
        "right": "share of the hidden patches whose code is predicted right, in [0, 1]",
        "chance": "share right if the commonest code were always named, in [0, 1]; `right` must rise above it",
        "codes": "codes in use under the hidden patches of a batch (perplexity); below 4 there is no task",
    }
    strip: ClassVar[tuple[str, ...]] = ("picture", "seen by the encoder", "as the tokenizer has it", "as predicted")

    def __init__(self, encoder: Encoder, options: Options, facts: Facts) -> None:
        super().__init__(encoder)
        self.options = options
        self.patch = encoder.reductions[-1]
        self.side = encoder.image_size // self.patch
        self.hidden = hidden_count(self.side**2, options.mask_ratio)
        self.hidden_token = nn.Parameter(torch.randn(1, 1, encoder.map_width) * 0.02)
        self.head = nn.Linear(encoder.map_width, options.codes)
        self.chance = math.log(options.codes)
        self.tokenizer = Tokenizer(options, facts.channels, self.patch).requires_grad_(False)
        self.tokenizer_epochs = options.tokenizer_epochs or max(30, math.ceil(400 / facts.steps_per_epoch))

    @classmethod
    def check(cls, encoder: Encoder, options: Options, facts: Facts) -> None:
        """Refuse all but plain ViTs, and pictures of a single patch."""
        if not encoder.is_vit:
            raise refuse("beit", encoder, f"{PLAIN}; simmim hides patches from other backbones")
        check_sizes("beit", encoder, encoder.reductions[-1])

    def preliminary(self) -> tuple[nn.Module, int]:
        """The tokenizer, and the epochs it takes."""
        return self.tokenizer, self.tokenizer_epochs

    def check_preliminary(self, logs: dict[str, float]) -> None:
        """Refuse a tokenizer that names nearly all patches alike; warn of one whose codes say next to nothing.

        Raises:
            UserError: with what to try.
        """
        if logs["codes"] < FEW:
            raise UserError(
                f"beit: the tokenizer collapsed: {logs['codes']:.1f} of {self.options.codes} codes are in use, so "
                "there is nothing to predict; raise pretrain.options.diversity or pretrain.options.tokenizer_epochs, "
                "lower pretrain.learning_rate, or take simmim, which predicts pixels"
            )
        if logs["error"] > BLIND:
            say(
                f"beit: warning: the tokenizer paints hardly more than each picture's mean (error {logs['error']:.2f} "
                "of 1), so its codes say little; raise pretrain.options.tokenizer_epochs or take simmim"
            )

    def views(self, batch: Batch, progress: float) -> Views:
        """-> "image" (B, C, S, S) in [0, 1] and "hidden" (B, N) bool."""
        images = placed(to_float(batch["image"]), batch["generator"], self.options)
        return {"image": images, "hidden": block_mask(len(images), self.side, self.hidden, batch["generator"])}

    def losses(self, views: Views, progress: float) -> dict[str, Tensor]:
        """Loss: `code_error`; and the `logs`."""
        images, hidden = views["image"], views["hidden"]
        tokens = self.tokenizer.net.tokens(images)
        places = hidden.int().argsort(dim=1, descending=True, stable=True)[:, : self.hidden]
        seen = self.encoder.masked_tokens(images, hidden, self.hidden_token)
        logits = self.head(seen.gather(1, places.unsqueeze(2).expand(-1, -1, seen.shape[2])))
        wanted = tokens.gather(1, places)
        right = (logits.argmax(dim=2) == wanted).float().mean()
        shares = code_shares(wanted, self.options.codes)
        logs = {"right": right, "chance": shares.max(), "codes": perplexity(shares)}
        return {"loss": code_error(logits, wanted)} | logs

    def pictures(self, batch: Batch) -> Tensor:
        """Each picture, what is left visible, and painted from its codes, true and predicted: (B, 4, C, S, S)."""
        images = to_float(batch["image"])
        hidden = block_mask(len(images), self.side, self.hidden, batch["generator"])
        tokens = self.tokenizer.net.tokens(images)
        said = self.head(self.encoder.masked_tokens(images, hidden, self.hidden_token)).argmax(dim=2)
        decoded = [self.tokenizer.net.decode(t, images) for t in (tokens, torch.where(hidden, said, tokens))]
        return torch.stack([images, images.masked_fill(cover(hidden, self.patch), 0.5), *decoded], dim=1)


def code_error(logits: Tensor, tokens: Tensor) -> Tensor:
    """Cross-entropy in nats of the codes under hidden patches (Bao et al. 2022, eq. 1), the mean; log codes at chance.

    Args:
        logits: (B, M, codes).
        tokens: (B, M) the true codes.
    """
    return functional.cross_entropy(logits.float().flatten(0, 1), tokens.flatten())


def unused_codes(logits: Tensor) -> Tensor:
    """How far the codes' mean distribution is from the uniform one: KL divergence in nats, in [0, log codes].

    The KL divergence of Ramesh et al. 2021 (eq. 1), the mean over patches of that from the uniform distribution,
    is the information that codes have about patches plus this; this alone keeps codes in use at no cost to what
    they say (the diversity loss of Baevski et al. 2020, wav2vec 2.0, eq. 4). The mean is over all processes.

    Args:
        logits: (B, codes, h, w) of a process.
    """
    mean = gather(logits.softmax(dim=1).mean(dim=(2, 3))).mean(dim=0)
    return (mean * (mean.clamp(min=1e-12) * mean.shape[0]).log()).sum()


def gumbel_temperature(progress: float) -> float:
    """From 1 down to 1/4, geometrically: draws start soft, so that all codes learn, and end close to a choice.

    Ramesh et al. 2021 go to 1/16 in 150,000 steps; in a few hundred that leaves codes no time to part.
    """
    return float(0.25**progress)


METHOD = BEiT
