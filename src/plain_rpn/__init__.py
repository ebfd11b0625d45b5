"""Part (a): the region proposal network of five convolutions, its anchors and its losses."""
