"""The layout keeps its promises: imports point one way, serving never loads torch, packages cost nothing to open."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

LAYERS = [
    {"gateway.__main__", "gateway.commands"},
    {"gateway.worker", "gateway.demo"},
    {"gateway.serve"},
    {"gateway.app"},
    {"gateway.routes", "gateway.console"},
    {"gateway.relay"},
    {"gateway.services", "gateway.bootstrap"},
    {"gateway.annotation", "gateway.privacy"},
    {"gateway.access", "gateway.rollout", "gateway.feedback", "gateway.agent", "gateway.notify"},
    {"gateway.datasets"},
    {"gateway.routing"},
    {"gateway.engines"},
    {"gateway.wire"},
    {"gateway.storage"},
    {"gateway.formats", "gateway.redaction", "gateway.judging"},
    {"gateway.contracts"},
    {
        "gateway.calendar",
        "gateway.errors",
        "gateway.settings",
        "gateway.sections",
        "gateway.telemetry",
        "gateway.logs",
        "gateway.lifeline",
        "gateway.supervisor",
    },
]
"""Outermost first: a module may import from its own entry and from later ones, never from earlier ones."""

ALIGNMENT_LAYERS = [
    {"alignment.__main__", "alignment.commands"},
    {"alignment.worker", "alignment.library"},
    {"alignment.adapter_card"},
    {"alignment.cycle", "alignment.calibration"},
    {"alignment.jobs", "alignment.export", "alignment.sharing", "alignment.subject"},
    {"alignment.placing"},
    {"alignment.freezing", "alignment.publish", "alignment.gate", "alignment.ledger"},
    {"alignment.training"},
    {"alignment.losses"},
    {"alignment.adapter"},
    {"alignment.models"},
    {"alignment.step"},
    {"alignment.pairs"},
    {
        "alignment.base_models",
        "alignment.devices",
        "alignment.presence",
        "alignment.files",
        "alignment.hubs",
        "alignment.left_out",
        "alignment.side_files",
        "alignment.card",
        "alignment.errors",
    },
]


def modules(package: str) -> Iterator[tuple[str, Path]]:
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def rank(module: str, layers: list[set[str]]) -> int | None:
    for number, layer in enumerate(layers):
        if any(module == name or module.startswith(name + ".") for name in layer):
            return number
    return None


@pytest.mark.parametrize(("package", "layers"), [("gateway", LAYERS), ("alignment", ALIGNMENT_LAYERS)])
def test_imports_point_inwards_only(package: str, layers: list[set[str]]) -> None:
    wrong = []
    for module, path in modules(package):
        own = rank(module, layers)
        if module == package or "migrations" in module:
            continue
        assert own is not None, f"{module} stands in no layer: add it to the list"
        for line, imported in imports(path):
            other = rank(imported, layers)
            if other is not None and other < own:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_gateway_never_imports_alignment_nor_an_engine() -> None:
    heavy = ("alignment", "torch", "transformers", "peft", "vllm", "lmdeploy")
    scripts = {"vllm_cpu_launch.py", "lmdeploy_send_weights.py"}  # run by the engine's own Python, never imported
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {imported}"
        for _, path in modules("gateway")
        if path.name not in scripts
        for line, imported in imports(path)
        if imported.split(".")[0] in heavy
    ]
    assert not wrong, "\n".join(wrong)


def test_alignment_takes_from_gateway_only_records_and_the_rules_that_make_data_sets() -> None:
    allowed = (
        "gateway.calendar",
        "gateway.contracts",
        "gateway.formats",
        "gateway.redaction",
        "gateway.storage",
        "gateway.datasets",
        "gateway.judging",
        "gateway.sections",
        "gateway.commands.options",
    )
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {imported}"
        for _, path in modules("alignment")
        for line, imported in imports(path)
        if imported.startswith("gateway.") and not imported.startswith(allowed)
    ]
    assert not wrong, "\n".join(wrong)


def test_importing_every_gateway_module_loads_no_torch() -> None:
    names = [name for name, path in modules("gateway") if path.name not in {"vllm_cpu_launch.py", "env.py"}]
    names = [name for name in names if name not in {"gateway.engines.lmdeploy_send_weights"}]
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
    code += "print([m for m in ('torch', 'transformers', 'vllm', 'alignment') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_gateway_worker_loads_nothing_that_only_rare_work_needs() -> None:
    heavy = ("aiohttp", "alembic", "email_validator", "fsspec", "jinja2", "numpy", "pyarrow", "pydantic.v1")
    heavy += ("regex", "rensa", "rich", "typer", "watchfiles")
    code = "import sys, gateway.worker as worker; worker.leave_out(); import gateway.logs, gateway.serve\n"
    code += "gateway.serve.create_app(gateway.serve.Settings())\n"
    code += f"print([name for name in {heavy!r} if sys.modules.get(name) is not None])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_package_markers_are_empty() -> None:
    markers = [path for package in ("gateway", "alignment") for path in (ROOT / package).rglob("__init__.py")]
    assert [str(path) for path in markers if path.read_text().strip()] == []
