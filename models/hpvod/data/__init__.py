"""Readers of data sets: ImageNet VID and DET, COCO-video JSON, Flying Chairs."""

from hpvod.data.clip import Annotation, Clip, DataError, Dataset, Frame, read_image

__all__ = ["Annotation", "Clip", "DataError", "Dataset", "Frame", "read_image"]
