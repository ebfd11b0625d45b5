"""The networks: backbones, FPN, RPN, box head, mask head, and the assembled detector."""
