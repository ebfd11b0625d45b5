"""Stage `backbone` (tasks 8 and 10): pretrained backbone and FPN with an RPN, fine-tuned on the data set."""
