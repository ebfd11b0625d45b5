"""One script for a machine with a GPU: parity, speed beside torchvision's and the card's limits, every stage."""
