"""Kinds of settings that many sections have: what `params.yaml` may say for one."""

from __future__ import annotations

from typing import Annotated

from src.core.schema import Constraint

Count = Annotated[int, Constraint(low=0)]
Positive = Annotated[int, Constraint(low=1)]
Fraction = Annotated[float, Constraint(low=0, high=1)]
Weight = Annotated[float, Constraint(low=0)]
Rate = Annotated[float, Constraint(above=0)]
Seed = Annotated[int, Constraint(low=0, high=2**31 - 1)]
Color = Annotated[tuple[float, ...], Constraint(low=0, high=1, length=3)]
