"""Helpers for people who work on the project; no stage imports them."""
