"""Stage `anchors` (task 2): histograms of scale and aspect ratio, the anchors that their modes give, their fit."""
