"""The tasks: name -> (module, one line)."""

TASKS = {
    "classification": ("ssl_defect.finetune.classification", "Is it defective, or which defects: labels per image."),
    "detection": ("ssl_defect.finetune.detection", "Where are the defects: a box around each."),
    "instance": ("ssl_defect.finetune.instance", "Which defect is it: a box around each, and its mask."),
    "regression": ("ssl_defect.finetune.regression", "How bad is the defect: its grade, or its area."),
    "segmentation": ("ssl_defect.finetune.segmentation", "Where is the defect, of which class: pixel by pixel."),
}

# fitted without an encoder and without steps
CLASSICAL = {
    "classical": ("ssl_defect.finetune.classical", "Thresholds, golden image or texture features: needs no encoder."),
}
