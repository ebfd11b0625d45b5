"""A small pipeline in the working directory, for checkpoints to be told apart by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml


def write_pipeline(stages: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Writes `dvc.yaml` and `params.yaml`."""
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": dict(stages)}), encoding="utf-8")
    Path("params.yaml").write_text(yaml.safe_dump(dict(params)), encoding="utf-8")


def enter_workspace(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """A project of one stage, `toy`, as working directory."""
    patch.delenv("DVC_ROOT", raising=False)
    patch.chdir(folder)
    write_pipeline({"toy": {"deps": []}}, {})
