"""Synthetic videos with exact boxes, tracks and flow: data to train and to test on."""

from hpvod.synthetic.classes import SYNTHETIC_CLASSES
from hpvod.synthetic.clip import SyntheticClip, SyntheticPair, make_clip, make_pair

__all__ = ["SYNTHETIC_CLASSES", "SyntheticClip", "SyntheticPair", "make_clip", "make_pair"]
