"""`python -m benchmarks.gpu`: what there is to measure on a machine with a GPU, in `gpu.json` and `gpu.md`.

Run in the project's root; no run of the pipeline needs to have been there. Both files are written anew after every
result, the most important ones first. Sections whose packages are not installed are skipped.

The exit status is 0 where every check of parity was made and passed.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision

from benchmarks.gpu import parity
from benchmarks.gpu.page import write_gpu_page
from benchmarks.gpu.sections import SECTIONS, run_sections
from benchmarks.gpu.setting import Setting
from src.core.files import read_json, write_json
from src.core.runtime import has_fast_bf16

NO_GPU = "benchmarks.gpu: found no GPU; on the processor: python -m benchmarks.gpu --device cpu --small"
JSON, PAGE = "gpu.json", "gpu.md"
ORDER = [section.name for section in SECTIONS]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the sections; gives the exit status."""
    options = parse(arguments)
    device = torch.device(options.device or "cuda")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            print(NO_GPU, file=sys.stderr)
            return 2
        torch.cuda.set_device(device)
    setting = Setting(device, options.small, time.monotonic() + 60 * options.minutes, precision(device))
    results = start(options.out / JSON, {"machine": machine(setting), "small": options.small}, keep=options.only)

    def note(section: str, record: Any) -> None:
        results["sections"][section] = record
        write_json(options.out / JSON, results)
        write_gpu_page(results, options.out / PAGE)

    run_sections([one for one in SECTIONS if one.name in (options.only or ORDER)], setting, note)
    return 0 if parity.passed(results["sections"].get("parity")) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--device", help="cuda, cuda:1 or cpu; the GPU where nothing is said")
    parser.add_argument("--small", action="store_true", help="sizes for a processor, which test the script")
    parser.add_argument("--minutes", type=float, default=8.0, help="no section starts after so many")
    parser.add_argument("--only", nargs="+", choices=ORDER, help="sections to run; the others' results stay")
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder of gpu.json and gpu.md")
    return parser.parse_args(arguments)


def precision(device: torch.device) -> str:
    """What detectors run in: bf16 where the device has it in hardware."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bf16" if has_fast_bf16() and not torch.cuda.is_available() else "float32"


def machine(setting: Setting) -> dict[str, str]:
    """What numbers were measured on."""
    if setting.device.type == "cuda":
        card = torch.cuda.get_device_properties(setting.device)
        name = f"{card.name}, {card.total_memory / 2**30:.0f} GiB, compute capability {card.major}.{card.minor}"
    else:
        name = f"CPU ({platform.machine()})"
    return {
        "device": name,
        "precision": setting.precision,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
    }


def start(path: Path, facts: dict[str, Any], *, keep: bool) -> dict[str, Any]:
    """The results to begin with: none, or those of an earlier run on the same machine that are to stay."""
    before = read_json(path) if keep and path.exists() else {}
    same = all(before.get(name) == value for name, value in facts.items())
    return {**facts, "sections": before.get("sections", {}) if same else {}}


if __name__ == "__main__":
    sys.exit(main())
