"""Notes which parameters and files a stage uses; Python loads it at start when its folder is on PYTHONPATH.

DVC names the stage in `DVC_STAGE`. At its end a stage leaves `$RECORD/<stage>.json`: `params`, the dotted names of the
values read after `load_params` returned, and `files`, the paths opened for reading inside the working directory.
"""

import atexit
import dataclasses
import importlib.abc
import importlib.machinery
import json
import os
import sys
from pathlib import Path

PARAMS: set[str] = set()
FILES: set[str] = set()
HERE = Path.cwd()


def watch(tree, prefix: str, names: dict) -> None:
    """Keeps the dotted name of each dataclass of the params."""
    names[id(tree)] = prefix
    for field in dataclasses.fields(tree):
        value = getattr(tree, field.name)
        if dataclasses.is_dataclass(value):
            watch(value, f"{prefix}.{field.name}".strip("."), names)


def record_params(module) -> None:
    """Makes `load_params` return an object whose attributes are noted when read."""
    load, names, kept = module.load_params, {}, []

    def note(self, name):
        value = object.__getattribute__(self, name)
        if id(self) in names and name in type(self).__dataclass_fields__ and not dataclasses.is_dataclass(value):
            PARAMS.add(f"{names[id(self)]}.{name}")
        return value

    def load_and_watch(*args):
        record_h5()
        params = load(*args)
        watch(params, "", names)
        kept.append(params)
        for kind in vars(sys.modules["src.core.params"]).values():
            if dataclasses.is_dataclass(kind) and kind.__name__ != "Constraint":
                kind.__getattribute__ = note
        return params

    module.load_params = load_and_watch


class Finder(importlib.abc.MetaPathFinder):
    """Finds `src.core.params` as usual and patches it once it is loaded."""

    def find_spec(self, name, path, target=None):
        if name != "src.core.params_file":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            record_params(module)

        spec.loader.exec_module = exec_module
        return spec


def note_file(name: str) -> None:
    """Keeps a path inside the working directory; a name that begins with a dot is being written beside its place."""
    path = Path(os.path.normpath(HERE / name))
    if path.is_relative_to(HERE) and path.suffix not in (".py", ".pyc") and not path.name.startswith("."):
        FILES.add(path.relative_to(HERE).as_posix())


def on_event(event: str, args: tuple) -> None:
    """Notes a file that Python opens for reading."""
    if event == "open" and isinstance(args[0], str) and not (args[1] and set("wxa+") & set(args[1])):
        note_file(args[0])


def record_h5() -> None:
    """Notes files that h5py opens for reading: its library does so behind Python's back."""
    if h5py := sys.modules.get("h5py"):
        start = h5py.File.__init__

        def start_and_note(self, name, mode="r", *args, **options):
            if isinstance(name, h5py.h5f.FileID):  # opened already, through h5py's lower level
                if name.get_intent() == h5py.h5f.ACC_RDONLY:
                    note_file(h5py.h5f.get_name(name).decode())
            elif mode == "r":
                note_file(str(name))
            start(self, name, mode, *args, **options)

        h5py.File.__init__ = start_and_note


def leave(path: Path) -> None:
    path.write_text(json.dumps({"params": sorted(PARAMS), "files": sorted(FILES)}))


if "RECORD" in os.environ and "DVC_STAGE" in os.environ:
    sys.meta_path.insert(0, Finder())
    sys.addaudithook(on_event)
    atexit.register(leave, Path(os.environ["RECORD"]) / f"{os.environ['DVC_STAGE']}.json")
