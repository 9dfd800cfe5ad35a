"""Which self-supervised pretraining makes a defect detector better, by how much, with how few labels."""

__version__ = "0.1.0"
