"""RoIAlign, ours beside torchvision's: forward, and forward with backward, on P2 of an 800 x 1088 picture (task 12).

Run from the root as `python -m benchmarks.roi_align [--threads 2] [--repeats 9]`. The two take turns, so that a busy
machine slows both; medians and ratios are printed. torchvision has no bfloat16 on CPU: it is given float32, in the
memory format it likes best, and ours is measured against that.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor

from src.ops.roi_align import roi_align

SCALE = 0.25
CASES = [(400, 7), (100, 14)]  # RoIs, cells a side: the box head's and the mask head's
Pool = Callable[[Tensor], Tensor]


def random_boxes(count: int, generator: torch.Generator) -> Tensor:
    """Boxes of 16 to 400 pixels a side, evenly over the logarithm, clipped to the canvas."""
    canvas = torch.tensor([1088.0, 800.0])
    centres = torch.rand(count, 2, generator=generator) * canvas
    halves = 8 * torch.exp(torch.rand(count, 2, generator=generator) * 3.2)
    corners = [(centres - halves).clamp(min=0), torch.minimum(centres + halves, canvas)]
    return torch.cat([torch.zeros(count, 1), *corners], dim=1)


def forward(pool: Pool, features: Tensor) -> None:
    """One pooling, without a graph."""
    with torch.no_grad():
        pool(features)


def forward_backward(pool: Pool, features: Tensor) -> None:
    """One pooling and its gradient."""
    leaf = features.detach().requires_grad_()
    pooled = pool(leaf)
    torch.autograd.grad(pooled, leaf, torch.ones_like(pooled))


def take_turns(contestants: dict[str, tuple[Pool, Tensor]], repeats: int) -> dict[str, list[float]]:
    """Median seconds of forward, and of forward with backward; the first round is not counted."""
    seconds: dict[str, list[list[float]]] = {name: [[], []] for name in contestants}
    for turn in range(repeats + 1):
        for name, (pool, features) in contestants.items():
            for run, times in zip((forward, forward_backward), seconds[name], strict=True):
                start = time.perf_counter()
                run(pool, features)
                if turn:
                    times.append(time.perf_counter() - start)
    return {name: [statistics.median(times) for times in pair] for name, pair in seconds.items()}


def main() -> None:
    """Prints a table a case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    planes = torch.randn(1, 256, 200, 272, generator=generator)
    rows = planes.contiguous(memory_format=torch.channels_last)
    for count, cells in CASES:
        boxes = random_boxes(count, generator)

        def ours(features: Tensor, boxes: Tensor = boxes, cells: int = cells) -> Tensor:
            return roi_align(features, boxes, cells, SCALE)

        def theirs(features: Tensor, boxes: Tensor = boxes, cells: int = cells) -> Tensor:
            return torchvision.ops.roi_align(features, boxes, cells, SCALE, 2, aligned=True)

        medians = take_turns(
            {
                "torchvision float32": (theirs, planes),
                "ours float32": (ours, rows),
                "ours bfloat16": (ours, rows.bfloat16()),
                "ours float32, NCHW": (ours, planes),
                "ours bfloat16, NCHW": (ours, planes.bfloat16()),
            },
            options.repeats,
        )
        difference = (ours(rows) - theirs(planes)).abs().max()
        print(f"{count} RoIs on P2, P = {cells}, {options.threads} threads; largest difference {difference:.1e}")
        base = medians["torchvision float32"]
        for name, pair in medians.items():
            columns = [f"{1e3 * s:8.1f} ms ({b / s:5.1f} x)" for s, b in zip(pair, base, strict=True)]
            print(f"  {name:22}  forward {columns[0]}   forward + backward {columns[1]}")


if __name__ == "__main__":
    main()
