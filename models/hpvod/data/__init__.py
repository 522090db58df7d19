"""Readers of data sets: ImageNet VID and DET, COCO-video JSON, Flying Chairs."""

from hpvod.data.class_list import read_classes
from hpvod.data.clip import Annotation, Clip, DataError, Dataset, Frame, read_image
from hpvod.data.coco_video import CocoVideo
from hpvod.data.flying_chairs import FlyingChairs, read_flow, write_flow
from hpvod.data.imagenet import WORDNET_IDS, ImageNetDET, ImageNetVID
from hpvod.data.skipped import Skipped, SkippedWarning

__all__ = [
    "WORDNET_IDS",
    "Annotation",
    "Clip",
    "CocoVideo",
    "DataError",
    "Dataset",
    "FlyingChairs",
    "Frame",
    "ImageNetDET",
    "ImageNetVID",
    "Skipped",
    "SkippedWarning",
    "read_classes",
    "read_flow",
    "read_image",
    "write_flow",
]
