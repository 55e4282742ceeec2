"""The house keeps its shape: layers, names, docstrings, what importing costs."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kvdict
from kvdict import errors

PACKAGE = Path(kvdict.__file__).parent
PACKAGES = {
    "transfer": (
        "report", "records", "decoder", "table", "seen", "draft", "namespaces", "identity", "paths",
        "state", "filenames", "interrupts", "writers", "lines", "jsontext", "wrangler", "folder",
        "formats", "inventory", "pace", "work", "frontier", "exporting", "importing", "copying",
        "comparing", "syncing", "clearing", "__init__",
    ),
    "cli": (
        "words", "input", "output", "failures", "retries", "questions", "opening", "command",
        "progress", "reports", "listing", "target", "values", "removal", "files", "between",
        "namespaces", "emulator", "completion", "root", "__init__",
    ),
}  # fmt: skip
"""The order of the modules in packages that have one."""
ORDER = (
    "version", "forks", "hosts", "errors", "options", "models", "phrases", "limits", "secret",
    "signing", "codecs", "writes", "deadlines", "clock", "answers", "budget", "http",
    "transport", "client", "latch", "flights", "reader", "convoy", "chunks", "writer", "home",
    "names", "changes", "settling", "bufferoptions", "buffer", "journalerrors", "journallock",
    "journalrows", "journalfile", "journalcheck", "journalopen", "journal", "exits", "turns",
    "overlaps", "outcomes", "delivery", "rounds", "flusher", "source", "cache", "breaker",
    "readmany", "readthrough", "asking", "renewals", "cachedreads", "listing", "ahead", "gate",
    "writepath", "backing", "keyspace", "pairs", "views", "handle", "mapping", "edit",
    "argkeys", "complaints", "remembered", "kept", "memoize_async", "memoize", "namespace",
    "where", "credentials", "local", "config", "account", "envelope", "anyshelf", "shelf",
    "dbmfiles", "shelve", "transfer", "cli", "__main__", "__init__",
)  # fmt: skip


def imports(path: Path, package: str = "kvdict.") -> set[str]:
    """Return the modules of a package that a module imports, those for type checkers left out."""
    tree = ast.parse(path.read_text())
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    return {
        str(node.module).removeprefix(package).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and id(node) not in guarded
        and (node.module or "").startswith(package)
    }


def test_imports_run_one_way() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py")}
    assert modules | set(PACKAGES) == set(ORDER)
    for position, name in enumerate(ORDER):
        path = PACKAGE / name if name in PACKAGES else PACKAGE / f"{name}.py"
        found = [path] if path.is_file() else list(path.glob("*.py"))
        later = set().union(*map(imports, found)) - {*ORDER[:position], name}
        assert later <= ({"emulator"} if name in {"local", "cli"} else set()), (name, later)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_in_a_package_run_one_way(package: str) -> None:
    order = PACKAGES[package]
    folder = PACKAGE / package
    assert {path.stem for path in folder.glob("*.py")} == set(order)
    for position, name in enumerate(order):
        inner = imports(folder / f"{name}.py", f"kvdict.{package}.")
        assert inner <= set(order[:position]), (name, inner)


def test_the_emulator_shares_only_the_numbers() -> None:
    for path in (PACKAGE / "emulator").glob("*.py"):
        assert imports(path) <= {"emulator", "limits"}, path.name


def test_the_exported_names_are_these() -> None:
    public = {name for name, value in vars(kvdict).items() if not inspect.ismodule(value)}
    late = {"__version__", "sync"}  # sync is imported when it is first used
    assert {name for name in public if name[0] != "_"} | late == set(kvdict.__all__)
    assert all(hasattr(kvdict, name) for name in kvdict.__all__)
    assert sorted(kvdict.__all__) == kvdict.__all__
    assert {
        "open", "Account", "KVNamespace", "Client", "Codec", "Entry", "Key", "KVError",
    } <= set(kvdict.__all__)  # fmt: skip


def test_every_error_is_exported_drawn_and_says_what_to_do() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    kinds = [kind for kind in kinds if issubclass(kind, errors.KVError)]
    for kind in kinds:
        assert getattr(kvdict, kind.__name__) is kind
        assert kind.__name__ in (errors.__doc__ or "")
        assert kind.__doc__


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        ("AuthError", PermissionError), ("NotFoundError", LookupError),
        ("TransportError", ConnectionError), ("LimitError", ValueError),
        ("CodecError", ValueError), ("ConfigError", ValueError), ("ClosedError", ValueError),
        ("QuotaError", kvdict.RateLimitError), ("ServerError", kvdict.APIError),
    ],
)  # fmt: skip
def test_errors_are_also_the_builtin_one_would_guess(kind: str, builtin: type) -> None:
    assert issubclass(getattr(kvdict, kind), builtin)
    assert not issubclass(getattr(kvdict, kind), KeyError)


def test_the_mappings_methods_say_what_they_cost() -> None:
    free = {"__init__", "__hash__", "__class_getitem__"}
    for name, member in inspect.getmembers(kvdict.KVNamespace, inspect.isfunction):
        if name.startswith("_") and not name.startswith("__"):
            continue
        if member.__module__.startswith("kvdict") and name not in free:
            assert member.__doc__, name
    costly = ("__getitem__", "__setitem__", "__delitem__", "__contains__", "__len__", "__bool__",
              "pop", "popitem", "setdefault", "update", "clear", "copy", "items", "put",
              "put_many", "get_many", "delete", "delete_many", "entry", "metadata", "touch",
              "scan")  # fmt: skip
    for name in costly:
        assert "request" in inspect.getdoc(getattr(kvdict.KVNamespace, name)), name  # type: ignore[operator]  # a missing docstring fails here


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_what_a_checker_is_told_to_overlook_has_its_reason_beside_it() -> None:
    bare = re.compile(
        r"# (noqa|type: ignore|pragma: no (cover|branch))(: [A-Z0-9, ]+|\[[a-z, -]+\])?$",
        re.MULTILINE,
    )
    for folder in ("kvdict", "tests", "benchmarks", "examples"):
        for path in (PACKAGE.parent / folder).rglob("*.py"):
            assert not bare.search(path.read_text()), path


def test_importing_kvdict_does_not_import_the_emulator() -> None:
    program = "import sys, kvdict; print(sorted(m for m in sys.modules if 'werkzeug' in m))"
    assert run(program) == "[]"


@pytest.mark.usefixtures("unmeasured")
def test_importing_kvdict_does_not_import_what_moves_data() -> None:
    program = (
        "import sys, kvdict; late = {'kvdict.transfer', 'sqlite3'};"
        "print(late & set(sys.modules), kvdict.sync.__module__, hasattr(kvdict, 'other'))"
    )
    assert run(program) == "set() kvdict.transfer.syncing False"


def test_nothing_of_the_extras_is_imported_by_the_core() -> None:
    program = (
        "import sys, kvdict; kvdict.open('memory://').update(a=1);"
        "print({'flask', 'django', 'click', 'pytest', 'cachelib', 'dogpile'} & set(sys.modules))"
    )
    assert run(program) == "set()"


def test_stats_and_budget_of_a_local_home_are_plain(kv: kvdict.KVNamespace[Any]) -> None:
    assert set(kv.stats()) >= {"requests", "retries"}
    assert repr(kv.budget).startswith("<RateBudget")
