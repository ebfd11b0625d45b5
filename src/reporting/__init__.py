"""Answers in words, loss curves and the HTML page."""
