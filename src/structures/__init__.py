"""One type for one thing: samples, targets, proposals, detections."""
