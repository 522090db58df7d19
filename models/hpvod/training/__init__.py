"""Training: Section 3.4's joint training on pairs of frames, and the flow network before it."""
