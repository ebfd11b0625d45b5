"""What a stage notes of its cost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from src.core.stage import note_memory

MEGABYTE = 10**6
PROGRAM = """
import subprocess, sys
from pathlib import Path
from src.core.stage import note_memory
fill = "x = b'1' * {} * 10**6"
exec(fill.format(sys.argv[1]))
subprocess.run([sys.executable, "-c", fill.format(sys.argv[2])], check=True)
note_memory(Path(sys.argv[3]))
"""


def test_memory_is_the_peak_of_the_process_or_of_its_largest_child(tmp_path: Path) -> None:
    def peak(own: int, child: int) -> int:
        path = tmp_path / "peak.json"
        root = Path(__file__).parents[2]
        subprocess.run([sys.executable, "-c", PROGRAM, str(own), str(child), str(path)], check=True, cwd=root)
        return int(path.read_text())

    least = peak(0, 0)  # whatever the process that starts it has
    assert 150 * MEGABYTE < peak(300, 0) - least < 600 * MEGABYTE
    assert peak(0, 900) > 880 * MEGABYTE


def test_memory_is_written_in_bytes(tmp_path: Path) -> None:
    note_memory(tmp_path / "a.json")
    assert 10 * MEGABYTE < int((tmp_path / "a.json").read_text()) < 100_000 * MEGABYTE
