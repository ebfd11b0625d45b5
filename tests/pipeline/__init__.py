"""Tests of the whole DAG: DVC runs every stage on a few small pictures, in a copy of the project."""
