"""Nothing listens, nothing calls out, nothing runs what a file says: by what the code imports, and by running it."""

from __future__ import annotations

import ast
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.ingest import __main__ as ingest
from stages.prepare import __main__ as prepare
from stages.source import __main__ as source
from tests.hostile.case import PROJECT, Stage, params_text

MODULES = sorted(path for folder in ("src", "stages") for path in (PROJECT / folder).rglob("*.py"))
# Modules that start programs, open connections or unpickle, with the one file that may use them and how.
DANGEROUS = {"subprocess", "socket", "socketserver", "http", "urllib", "requests", "ftplib", "ssl", "asyncio"}
DANGEROUS |= {"pickle", "marshal", "shelve", "dill", "joblib", "yaml", "code", "runpy", "tarfile", "zipfile"}
ALLOWED = {
    ("src/sources/pickles.py", "pickle"),  # the machine under the allow-list
    ("src/core/processes.py", "subprocess"),  # the type of what Lightning starts: this stage once more
    ("src/sources/hold_out.py", "zipfile"),  # one member, up to a limit, into the memory
    ("src/detector/weights.py", "http"),  # the name of an exception
    ("src/evaluation/exports.py", "urllib"),  # writes a name into an address
    ("src/reporting/origin.py", "urllib"),  # writes a key into a link within the page
    ("src/reporting/provenance.py", "subprocess"),  # asks Git for the commit, its params.yaml, and edited code
    ("src/training/checkpoint.py", "yaml"),  # reads dvc.yaml, by the safe loader
}
# Processes of one run that unpickle what the others send.
TALKING = {"src/core/processes.py", "src/training/across.py"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "importlib.import_module"}


def name_of(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def imports(tree: ast.AST) -> Iterator[str]:
    """Top names of all imports, wherever they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """All calls, by the text of what is called."""
    return ((ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_has_dangerous_means(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = {(name_of(path), name) for name in imports(tree) if name in DANGEROUS}
    assert found <= ALLOWED
    for called, node in calls(tree):
        options = {option.arg: ast.unparse(option.value) for option in node.keywords}
        assert called not in CALLS
        if called == "torch.load":
            assert options.get("weights_only") == "True"
        if called.endswith(("gather_object", "object_list")):
            assert name_of(path) in TALKING
        if called == "Image.open" and path.parent.name != "emoji":  # those open what was drawn here
            assert options.get("formats") == "FORMATS"
        if called.startswith("yaml."):
            assert called == "yaml.safe_load"
        if called == "YAML":
            assert options.get("typ") == "'safe'"
        assert "allow_pickle" not in options or options["allow_pickle"] == "False", called


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every socket is an error."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("kind", ["emoji", "course", "coco"])
def test_the_data_stages_open_no_connection(stage: Stage, course: Path, coco: Path, kind: str) -> None:
    shutil.copytree({"course": course}.get(kind, coco), stage.folder / "input")
    text = params_text(data__source=kind, data__emoji__train=2, data__emoji__test=1)
    (stage.folder / "params.yaml").write_text(text)
    for name, work in (("source", source.main), ("ingest", ingest.main), ("prepare", prepare.main)):
        stage.accepts(name, work)
    assert (stage.folder / "data/prepared.h5").is_file()
