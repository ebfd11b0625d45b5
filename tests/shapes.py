"""The run-time type checker of the tests: beartype, with Python's own rule that a whole number is a number."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
