"""Two stages: proposals, then a look at each. Faster R-CNN and Mask R-CNN of torchvision, sized for small pictures."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, ClassVar

from torch import Tensor
from torchvision.models import detection
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

from ssl_defect.nets.detection.architecture import Architecture, Backbone, Found, Levels, Plan, Truth, mode
from ssl_defect.nets.detection.neck import Anchors

POOLED = 7  # cells on a side of what is looked at in a proposal
HIDDEN = 256
CANONICAL = 14  # cells of the finest level up to which a box is looked at there, as 224 pixels at stride 16
SETTINGS = {
    "rpn_pre_nms_top_n_train": 500,
    "rpn_pre_nms_top_n_test": 500,
    "rpn_post_nms_top_n_train": 300,
    "rpn_post_nms_top_n_test": 200,
    "rpn_batch_size_per_image": 128,
    "box_batch_size_per_image": 64,
}
NAMES = {
    "loss_classifier": "class",
    "loss_box_reg": "box",
    "loss_objectness": "proposal_class",
    "loss_rpn_box_reg": "proposal_box",
    "loss_mask": "mask",
}


class FasterRCNN(Architecture):
    """Faster R-CNN, Ren et al. 2015 (arXiv:1506.01497), with the pyramid of Lin et al. 2017."""

    weights: ClassVar[dict[str, float]] = {"class": 1.0, "box": 1.0, "proposal_class": 1.0, "proposal_box": 1.0}
    kind: ClassVar[Any] = detection.FasterRCNN

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        whole = self.kind(
            Backbone(plan.width),
            rpn_anchor_generator=Anchors(plan.strides),
            box_roi_pool=self.pool(POOLED),
            box_head=TwoMLPHead(plan.width * POOLED**2, HIDDEN),
            box_predictor=FastRCNNPredictor(HIDDEN, plan.classes + 1),
            box_score_thresh=plan.threshold,
            box_nms_thresh=plan.nms,
            box_detections_per_img=plan.most,
            **SETTINGS,
            **self.parts(),
        )
        self.rpn, self.roi_heads = whole.rpn, whole.roi_heads

    def parts(self) -> dict[str, Any]:
        """What the class of torchvision takes besides."""
        return {}

    def pool(self, cells: int) -> MultiScaleRoIAlign:
        """RoIAlign by the strides themselves; torchvision takes them for powers of two."""
        strides = self.plan.strides
        pool = MultiScaleRoIAlign([str(i) for i in range(len(strides))], cells, 2)
        pool.scales = [1 / stride for stride in strides]
        pool.map_levels = LevelMapper(0, len(strides) - 1, round(CANONICAL * strides[0]), 0)
        return pool

    def compute(self, levels: Levels, truth: Truth) -> dict[str, Tensor]:
        """As the base says."""
        with mode(self, True):
            _, losses = self._run(levels, truth)
        return {NAMES[name]: loss for name, loss in losses.items()}

    def detect(self, levels: Levels) -> Found:
        """As the base says."""
        with mode(self, False):
            found, _ = self._run(levels, None)
        return found

    def _run(self, levels: Levels, truth: Truth | None) -> tuple[Found, dict[str, Tensor]]:
        images, named = self.plan.images(levels), OrderedDict((str(i), level) for i, level in enumerate(levels))
        proposals, losses = self.rpn(images, named, truth)
        found, more = self.roi_heads(named, proposals, images.image_sizes, truth)
        return found, losses | more


class MaskRCNN(FasterRCNN):
    """Mask R-CNN, He et al. 2017 (arXiv:1703.06870): a mask of 28x28 in every box besides."""

    weights: ClassVar[dict[str, float]] = FasterRCNN.weights | {"mask": 1.0}
    kind: ClassVar[Any] = detection.MaskRCNN

    def parts(self) -> dict[str, Any]:
        """Pooling, head and predictor of the masks."""
        width = self.plan.width
        return {
            "mask_roi_pool": self.pool(2 * POOLED),
            "mask_head": MaskRCNNHeads(width, (width, width), 1),
            "mask_predictor": MaskRCNNPredictor(width, width, self.plan.classes + 1),
        }
