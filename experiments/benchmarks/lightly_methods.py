"""lightly's side: SimCLR, MoCo v2, SwAV, DINO, BYOL and MAE, put together from its parts as its examples do.

Heads, losses, momentum and numbers are those of the examples of lightly's documentation (docs.lightly.ai, PyTorch);
the backbone, the size of the pictures and the optimizer are the caller's. Each is a module that takes the list of
views which lightly's transform makes and gives the loss.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

from lightly import transforms
from lightly.loss import DINOLoss, NegativeCosineSimilarity, NTXentLoss, SwaVLoss
from lightly.models import modules, utils
from lightly.transforms.utils import IMAGENET_NORMALIZE
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn

Views = list[Tensor]
VIEWS = {"simclr": 2, "moco_v2": 2, "swav": 8, "dino": 8, "byol": 2, "mae": 1}


class Peer(nn.Module):
    """A method of lightly: `forward` gives the loss, `after_backward` comes between its gradients and the step."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.followers: list[tuple[nn.Module, nn.Module]] = []

    def follower(self, module: nn.Module, start: nn.Module | None = None) -> nn.Module:
        """A copy of the module (or `start`) that no gradient moves and `follow` does."""
        found = start or copy.deepcopy(module)
        utils.deactivate_requires_grad(found)
        self.followers.append((module, found))
        return found

    def follow(self, epoch: int, epochs: int) -> None:
        momentum = cosine_schedule(epoch, epochs, 0.996, 1) if epochs > 1 else 0.996
        for module, found in self.followers:
            utils.update_momentum(module, found, m=momentum)

    def after_backward(self, epoch: int) -> None:
        """What the examples do between the gradients and the step."""


class SimCLR(Peer):
    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__(backbone, width)
        self.head = modules.SimCLRProjectionHead(width, 512, 128)
        self.criterion = NTXentLoss()

    def forward(self, views: Views, epoch: int, epochs: int) -> Tensor:
        one, two = (self.head(self.backbone(view)) for view in views)
        loss: Tensor = self.criterion(one, two)
        return loss


class MoCo(Peer):
    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__(backbone, width)
        self.head = modules.MoCoProjectionHead(width, 512, 128)
        self.key_backbone, self.key_head = self.follower(backbone), self.follower(self.head)
        self.criterion = NTXentLoss(memory_bank_size=(4096, 128))

    def forward(self, views: Views, epoch: int, epochs: int) -> Tensor:
        self.follow(epoch, epochs)
        query = self.head(self.backbone(views[0]))
        loss: Tensor = self.criterion(query, self.key_head(self.key_backbone(views[1])).detach())
        return loss


class SwAV(Peer):
    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__(backbone, width)
        self.head = modules.SwaVProjectionHead(width, 512, 128)
        self.prototypes = modules.SwaVPrototypes(128, n_prototypes=512)
        self.criterion = SwaVLoss()

    def forward(self, views: Views, epoch: int, epochs: int) -> Tensor:
        self.prototypes.normalize()
        found = [self.prototypes(nn.functional.normalize(self.head(self.backbone(view)), dim=1)) for view in views]
        loss: Tensor = self.criterion(found[:2], found[2:])
        return loss.sum()


class DINO(Peer):
    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__(backbone, width)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's weight_norm, which lightly still takes
            self.head = modules.DINOProjectionHead(width, 512, 64, 2048, freeze_last_layer=1)
            start = modules.DINOProjectionHead(width, 512, 64, 2048)
        self.teacher, self.teacher_head = self.follower(backbone), self.follower(self.head, start)
        self.criterion = DINOLoss(output_dim=2048, warmup_teacher_temp_epochs=5)

    def forward(self, views: Views, epoch: int, epochs: int) -> Tensor:
        self.follow(epoch, epochs)
        taught = [self.teacher_head(self.teacher(view)) for view in views[:2]]
        loss: Tensor = self.criterion(taught, [self.head(self.backbone(view)) for view in views], epoch=epoch)
        return loss

    def after_backward(self, epoch: int) -> None:
        self.head.cancel_last_layer_gradients(current_epoch=epoch)


class BYOL(Peer):
    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__(backbone, width)
        self.head = modules.BYOLProjectionHead(width, 1024, 256)
        self.predictor = modules.BYOLPredictionHead(256, 1024, 256)
        self.target, self.target_head = self.follower(backbone), self.follower(self.head)
        self.criterion = NegativeCosineSimilarity()

    def forward(self, views: Views, epoch: int, epochs: int) -> Tensor:
        self.follow(epoch, epochs)
        predicted = [self.predictor(self.head(self.backbone(view))) for view in views]
        aims = [self.target_head(self.target(view)).detach() for view in views]
        loss: Tensor = (self.criterion(predicted[0], aims[1]) + self.criterion(predicted[1], aims[0])) / 2
        return loss


class MAE(Peer):
    """`backbone` is a plain ViT of timm."""

    def __init__(self, backbone: nn.Module, width: int) -> None:
        super().__init__(backbone, width)
        masked = modules.MaskedVisionTransformerTIMM(vit=backbone)  # type: ignore[arg-type]
        self.masked, self.patch = masked, masked.vit.patch_embed.patch_size[0]
        self.embed = nn.Linear(width, 512)
        self.decoder = modules.MaskedVisionTransformerDecoderTIMM(
            num_patches=masked.vit.patch_embed.num_patches, embed_dim=512, depth=1, num_heads=16
        )
        self.predict = nn.Linear(512, self.patch**2 * 3)

    def forward(self, views: Views, epoch: int, epochs: int) -> Tensor:
        images = views[0]
        size = (len(images), self.masked.sequence_length)
        kept, hidden = utils.random_token_mask(size, mask_ratio=0.75, device=images.device)
        seen = self.embed(self.masked.encode(images, idx_keep=kept))
        tokens = utils.repeat_token(self.decoder.mask_token, size).to(seen.dtype)
        decoded = self.decoder(utils.set_at_index(tokens, kept, seen))
        predicted = self.predict(utils.get_at_index(decoded, hidden))
        patches = utils.get_at_index(utils.patchify(images, self.patch), hidden - 1)  # the class token comes first
        return nn.functional.mse_loss(predicted.float(), patches)


PEERS: dict[str, type[Peer]] = {
    "simclr": SimCLR,
    "moco_v2": MoCo,
    "swav": SwAV,
    "dino": DINO,
    "byol": BYOL,
    "mae": MAE,
}


def transform(name: str, size: int, normalize: dict[str, Any] = IMAGENET_NORMALIZE, blur: bool = True) -> Any:
    """lightly's transform of a method: a PIL picture in RGB to a list of views.

    Args:
        name: of the method.
        size: side of a view, pixels; small crops keep their share of it.
        normalize: mean and std that the backbone wants.
        blur: False for small pictures, where the examples of SimCLR, MoCo and BYOL leave blur out.
    """
    small = 4 * round(size * 96 / 224 / 4)
    light: dict[str, Any] = {"input_size": size, "normalize": normalize} | ({} if blur else {"gaussian_blur": 0.0})
    made: dict[str, Any] = {
        "simclr": lambda: transforms.SimCLRTransform(**light),
        "moco_v2": lambda: transforms.MoCoV2Transform(**light),
        "swav": lambda: transforms.SwaVTransform(crop_sizes=(size, small), normalize=normalize),
        "dino": lambda: transforms.DINOTransform(global_crop_size=size, local_crop_size=small, normalize=normalize),
        "byol": lambda: transforms.BYOLTransform(
            view_1_transform=transforms.BYOLView1Transform(**light),
            view_2_transform=transforms.BYOLView2Transform(**light),
        ),
        "mae": lambda: transforms.MAETransform(input_size=size, normalize=normalize),
    }
    return made[name]()
