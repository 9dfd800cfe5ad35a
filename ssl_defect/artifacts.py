"""What a stage leaves on disk: written atomically, hashed, with a typed record, checked on reading.

A stage works in `RUN/<stage>.partial` and its folder is renamed to `RUN/<stage>` when it is whole, so that a
finished stage is never half there. Finished files are never written again, which makes hard links safe: a run
takes a stage with the same fingerprint over from the run beside it by linking its files.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ssl_defect.errors import UserError

RECORD = "record.json"
BIG = 64 * 2**20  # bytes; larger files are checked by size alone when a stage is read
PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "scikit-image", "ssl-defect")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary file beside `path`; when the block ends well it is synced and takes the name `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically; NaN and infinity are refused."""
    with atomic(path) as temporary:
        text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; run the stage that writes it") from error
    except ValueError as error:
        raise UserError(f"{path}: damaged; delete it and run the stage again") from error


def digest(value: Any) -> str:
    """SHA-256 (16 hex digits) of a JSON value with sorted keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 (16 hex digits) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@cache
def code_version(*modules: str) -> str:
    """Digest of the given modules and of all that they import from this package.

    Comments, docstrings and layout do not count: only a change of the syntax tree does.
    """
    seen: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        found = _syntax(name)
        if found is not None:
            seen[name], inner = found
            waiting += inner
    return digest(sorted(seen.items()))


@cache
def _syntax(module: str) -> tuple[str, list[str]] | None:
    """Digest of a module's syntax tree, and what it imports from this package; None where it has no file."""
    spec = find_spec(module)
    if spec is None or not spec.origin:
        return None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    inner = _imports(tree)
    _strip_docstrings(tree)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), inner


def _imports(tree: ast.Module) -> list[str]:
    package = __name__.split(".")[0]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == package:
            found.append(node.module)
            found += [f"{node.module}.{name.name}" for name in node.names if _is_module(node.module, name.name)]
        elif isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.split(".")[0] == package]
    return found


def _is_module(package: str, name: str) -> bool:
    spec = find_spec(package)
    places = spec.submodule_search_locations if spec else None
    return any((Path(place) / f"{name}.py").is_file() for place in places or [])


def _strip_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            first.value.value = ""


@dataclass(frozen=True)
class Record:
    """What made a finished stage: `record.json` in its folder."""

    stage: str
    fingerprint: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    code: str
    seconds: float
    peak_memory_mb: float
    created: str
    command: str
    taken_from: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, list[Any]] = field(default_factory=dict)


def machine() -> dict[str, Any]:
    """Processor, cores and system, to stand beside every number that was measured on it."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return {"processor": model, "cores": os.cpu_count() or 1, "system": platform.system()}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that change results."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def write_record(folder: Path, record: Record) -> None:
    """Hash every file of the folder into the record and write it last: with it, the stage is whole."""
    outputs = {
        path.relative_to(folder).as_posix(): [path.stat().st_size, file_digest(path)]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != RECORD
    }
    write_json(folder / RECORD, {**asdict(record), "outputs": outputs})


def read_record(folder: Path) -> Record | None:
    """The record of a finished stage, or None where there is none that can be read."""
    try:
        return Record(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def damage(folder: Path, record: Record) -> str:
    """Name of the first file of a finished stage that is missing or altered; empty where all is well."""
    for name, (size, sha) in record.outputs.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            return name
        if size <= BIG and file_digest(path) != sha:
            return name
    return ""


def take_over(source: Path, target: Path) -> None:
    """Fill `target` with the finished stage `source`: by hard links, or by copies where links are refused."""
    partial = target.with_name(f"{target.name}.taking")
    shutil.rmtree(partial, ignore_errors=True)
    for path in sorted(source.rglob("*")):
        if path.is_file():
            place = partial / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(path, place)
            except OSError:
                shutil.copy2(path, place)
    publish(partial, target)


def publish(partial: Path, target: Path) -> None:
    """Give a whole folder its final name; what stood there before is removed only afterwards."""
    old = target.with_name(f"{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def require(path: Path, stage: str) -> Path:
    """`path`, or one clear line that names the stage which writes it."""
    if not path.exists():
        raise UserError(f"{path}: missing; run `ssl-defect {stage}` first")
    return path
