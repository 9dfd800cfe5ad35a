"""The layouts of raw folders: name -> (module with `Options` and `scan(root, options)`, one line)."""

SOURCES = {
    "mvtec": ("ssl_defect.data.sources.mvtec", "MVTec AD layout: train/good, test/<defect>, ground_truth; VisA, BTAD"),
    "magnetic_tile": ("ssl_defect.data.sources.magnetic_tile", "Magnetic Tile defects: MT_<Class>/Imgs, with masks"),
    "elpv": ("ssl_defect.data.sources.elpv", "2,624 graded solar cells of the package elpv-dataset, without masks"),
    "folder": ("ssl_defect.data.sources.folder", "one folder per class, optionally a folder of masks"),
    "coco": ("ssl_defect.data.sources.coco", "pictures with a COCO annotation file: boxes of defects, no masks"),
    "synthetic": ("ssl_defect.data.sources.synthetic", "drawn parts: scratches, spots, cracks, stains, exact masks"),
}
