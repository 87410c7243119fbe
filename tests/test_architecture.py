"""The shape of the code: arrows point one way, heavy libraries stay in their layer, modules stay short."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("graph", "router", "deployments")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_LINES = 300

MODELS = {
    "torch",
    "transformers",
    "tokenizers",
    "sentence_transformers",
    "onnxruntime",
    "model2vec",
    "faster_whisper",
    "xllamacpp",
    "huggingface_hub",
    "gguf",
    "accelerate",
}
WORLD = {"ray", "fastapi", "starlette", "uvicorn", "httpx", "httpx_aiohttp", "aiohttp", "requests", "typer", "rich"}
NEVER = {"graph": WORLD | MODELS | {"numpy", "sklearn", "prometheus_client"}, "router": WORLD | {"redis"}}
"""Not even inside a function."""
NOT_AT_IMPORT = {"graph": set[str](), "router": MODELS, "deployments": MODELS}
"""Only inside the function that needs them: importing them costs seconds, or they may not be installed."""
ONLY_IN = {"redis": {"graph/stores/redis.py"}}
ABOVE = {"graph": {"router", "deployments"}, "router": {"deployments"}, "deployments": set[str]()}
READS_ENVIRONMENT = {"deployments/settings.py", "deployments/secrets.py"}
BINDS = {"deployments/app.py", "deployments/node_controller.py"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST, *, inside_functions: bool = True) -> Iterator[tuple[str, int]]:
    """Yield (module, line). What stands under `if TYPE_CHECKING:` is never run and does not count."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield ("." * node.level + (node.module or ""), node.lineno)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and not inside_functions:
            continue
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.orelse:
                yield from imports(child, inside_functions=inside_functions)
        else:
            yield from imports(node, inside_functions=inside_functions)


def calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and not any(isinstance(argument, ast.Tuple) for argument in node.args):
            yield ast.unparse(node.func), node.lineno  # a socket is bound to a tuple, a deployment never is
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield from ((ast.unparse(decorator), node.lineno) for decorator in node.decorator_list)


def environment_reads(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.environb", "os.getenv"):
            yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            if {alias.name for alias in node.names} & {"environ", "environb", "getenv"}:
                yield node.lineno


def violations(path: str, source: str) -> list[str]:
    """Return every rule that a module breaks, as `path:line: what`."""
    tree = ast.parse(source)
    package = path.partition("/")[0]
    found = []
    for module, line in imports(tree):
        top = module.partition(".")[0]
        if module.startswith("."):
            found.append(f"{path}:{line}: relative import {module}")
        if top in ABOVE[package]:
            found.append(f"{path}:{line}: {package} imports {module}, which lies above it")
        if top in NEVER.get(package, ()):
            found.append(f"{path}:{line}: {package} imports {top}")
        if top in ONLY_IN and path not in ONLY_IN[top]:
            found.append(f"{path}:{line}: imports {top}, which only {', '.join(ONLY_IN[top])} may")
    for module, line in imports(tree, inside_functions=False):
        if module.partition(".")[0] in NOT_AT_IMPORT[package]:
            found.append(f"{path}:{line}: imports {module} at module level")
    if path not in READS_ENVIRONMENT:
        found += [f"{path}:{line}: reads the environment" for line in environment_reads(tree)]
    if path not in BINDS:
        found += [
            f"{path}:{line}: {call}(…) belongs in {' or '.join(sorted(BINDS))}"
            for call, line in calls(tree)
            if call.startswith("serve.deployment") or call.endswith(".bind")
        ]
    lines = source.count("\n")
    return found + ([f"{path}: {lines} lines; at most {MAX_LINES}"] if lines > MAX_LINES else [])


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_keeps_the_rules(path: Path) -> None:
    assert violations(name_of(path), path.read_text()) == []


def test_every_package_is_looked_at() -> None:
    assert {name_of(path).partition("/")[0] for path in MODULES} == set(PACKAGES)


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("graph/x.py", "from router.types import Scores", "lies above"),
        ("graph/x.py", "def f():\n    import deployments.app", "lies above"),
        ("router/x.py", "import deployments", "lies above"),
        ("graph/x.py", "import ray", "graph imports ray"),
        ("graph/x.py", "def f():\n    import numpy", "graph imports numpy"),
        ("graph/executor.py", "import redis.asyncio", "only graph/stores/redis.py may"),
        ("router/x.py", "async def f():\n    from httpx import get", "router imports httpx"),
        ("router/x.py", "import torch.nn", "torch.nn at module level"),
        ("router/x.py", "class A:\n    from transformers import pipeline", "at module level"),
        ("router/x.py", "try:\n    import onnxruntime\nexcept ImportError:\n    pass", "at module level"),
        ("deployments/nodes/x.py", "import xllamacpp", "at module level"),
        ("deployments/x.py", "import os\nx = os.environ['A']", "reads the environment"),
        ("graph/x.py", "def f():\n    import os\n    return os.getenv('A')", "reads the environment"),
        ("router/x.py", "from os import environ", "reads the environment"),
        ("deployments/x.py", "@serve.deployment\nclass A: ...", "belongs in"),
        ("deployments/x.py", "serve.deployment(A)", "belongs in"),
        ("deployments/x.py", "app = A.options(x=1).bind(1)", "belongs in"),
        ("graph/x.py", "from .spec import NodeSpec", "relative import"),
        ("graph/x.py", "x = 1\n" * 301, "at most 300"),
    ],
)
def test_the_rules_catch_what_they_are_for(path: str, source: str, expected: str) -> None:
    (found,) = violations(path, source)
    assert expected in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("router/x.py", "import numpy\nimport sklearn.linear_model\ndef load():\n    import torch"),
        ("router/x.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("graph/stores/redis.py", "import redis.asyncio"),
        ("deployments/settings.py", "import os\nx = os.environ"),
        ("deployments/app.py", "@serve.deployment\nclass A: ...\nA.bind()"),
        (
            "deployments/x.py",
            "import ray, httpx\nfrom router.types import Scores\nimport os\nos.getpid()\nprobe.bind(('::1', 0))",
        ),
        ("graph/x.py", "x = 1\n" * 300),
    ],
)
def test_the_rules_let_pass_what_is_right(path: str, source: str) -> None:
    assert violations(path, source) == []
