"""Several processes at work on one run: gloo on processors, one thread each."""
