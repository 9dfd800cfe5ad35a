"""The tasks: name -> (module, one line)."""

TASKS = {
    "classification": ("ssl_defect.finetune.classification", "Is it defective, or which defect: one label per image."),
    "segmentation": ("ssl_defect.finetune.segmentation", "Where is the defect: a probability per pixel, by a U-Net."),
}
