"""A small pipeline in the working directory, for checkpoints to be told apart by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def write_pipeline(stages: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Writes `dvc.yaml` and `params.yaml`."""
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": dict(stages)}), encoding="utf-8")
    Path("params.yaml").write_text(yaml.safe_dump(dict(params)), encoding="utf-8")
