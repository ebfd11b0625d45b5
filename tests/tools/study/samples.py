"""A study in a folder of its own, and a table as its runs would give it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

WEIGHTS: dict[str, Any] = {
    "question": "Which result does the mask weight move?",
    "settings": "",
    "base": {"report.settings": "tried"},
    "baseline": "one",
    "variants": {"four": {"joint.loss_weights.mask": 4.0}, "one": {}},
    "seeds": {"joint.seed": [2, 3], "box_head.seed": [5, 6]},
    "target": "evaluate",
    "training": "joint",
    "metrics": ["box_ap", "classifier.recall"],
    "minutes": 2,
}


def write_study(name: str = "weights", folder: Path = Path("studies"), **changes: Any) -> Path:
    """Writes a study, with other values for some entries; None takes one out."""
    tree = {key: value for key, value in (WEIGHTS | changes).items() if value is not None}
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(tree, file)
    return folder / f"{name}.yaml"


def table(**values: list[float]) -> pd.DataFrame:
    """A metric `box_ap` by variant and seed, with the columns that every table has."""
    rows = [
        {
            "run": f"{variant}-{seed}",
            "variant": variant,
            "detector": "mask_rcnn",
            "seed": seed,
            "commit": "abc1234",
            "images": "0a0a0a0a",
            "box_ap": value,
        }
        for variant, found in values.items()
        for seed, value in enumerate(found)
    ]
    return pd.DataFrame(rows)
