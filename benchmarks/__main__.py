"""`python -m benchmarks`: every benchmark case, then `benchmarks/results.json` and `benchmarks/README.md`."""

from __future__ import annotations

import argparse
import gc
from itertools import chain
from pathlib import Path

from benchmarks import one_stage, operators, steps
from benchmarks.coco_evaluation import evaluation
from benchmarks.interleaved import run_interleaved
from benchmarks.page import write_page
from benchmarks.precision import accuracies
from benchmarks.roofline import peaks, shares
from src.core.files import read_json, write_json
from src.core.params_file import load_params
from src.core.runtime import environment_info, make_fabric

RESULTS, PAGE = Path("benchmarks/results.json"), Path("benchmarks/README.md")


def main() -> None:
    """Runs in the root of a workspace in which `dvc repro` has finished."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count, of every case")
    parser.add_argument("--only", default="", help="cases whose name contains this; the others' results stay")
    options = parser.parse_args()
    params = load_params()
    make_fabric(params.runtime)  # sets the threads
    results = read_json(RESULTS) if RESULTS.exists() else {"cases": []}
    entries = {entry["work"]: entry for entry in results["cases"]}
    for make in chain(operators.cases(), [evaluation], steps.cases(params), one_stage.cases(params)):
        case = make()
        if options.only.lower() in case.work.lower():
            entries[case.work] = run_interleaved(case, options.rounds)
        del case
        gc.collect()
    results |= {"cases": list(entries.values()), "conditions": environment_info(params.runtime)}
    if not options.only:
        peak = peaks()
        results |= {"peak_gflop_a_second": peak, "steps": shares(params, peak), "accuracies": accuracies(params)}
        results["trained_with"] = {
            "backbone.trainable_layers": params.backbone.trainable_layers,
            "backbone.epochs": params.backbone.epochs,
            "box_head.epochs": params.box_head.epochs,
            "mask_head.epochs": params.mask_head.epochs,
            "joint.scheme": params.joint.scheme,
            "joint.epochs": params.joint.epochs,
            "joint.trainable_layers": params.joint.trainable_layers,
        }
    write_json(RESULTS, results)
    write_page(results, PAGE)


if __name__ == "__main__":
    main()
