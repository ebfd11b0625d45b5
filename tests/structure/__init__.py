"""Tests of the project's shape: what files say about each other."""
