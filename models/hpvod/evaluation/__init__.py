"""How good detections in video are, by ImageNet VID's protocol."""
