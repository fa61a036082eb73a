"""The floors of the design: who may import whom, and what light modules leave out of memory."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {"files": 0, "errors": 0, "settings": 0, "figures": 0, "data": 1, "models": 1, "evaluation": 1, "runs": 2}
FLOORS |= {"training": 3, "explain": 3, "commands": 4, "__main__": 4}
MODULES = sorted(path for path in (ROOT / "leukodash").rglob("*.py") if path.name != "__init__.py")
LIGHT = [
    "leukodash.__main__",
    "leukodash.data.dataset",
    "leukodash.data.images",
    "leukodash.data.split",
    "leukodash.data.synthetic",
    "leukodash.evaluation.metrics",
    "leukodash.explain.cam",
    "leukodash.explain.samples",
    "leukodash.explain.words",
    "leukodash.models.backbones",
    "leukodash.models.weights",
    "leukodash.runs.config",
    "leukodash.runs.folder",
    "leukodash.runs.jobs",
    "leukodash.training.__main__",
]


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imports_at_run_time(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def floor(module):
    return FLOORS[module.split(".")[1]]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_from_its_own_floor_or_below(path):
    own = [name for name in imports_at_run_time(path) if name.startswith("leukodash.")]
    too_high = [name for name in own if floor(name) > floor(name_of(path))]
    assert not too_high


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_streamlit_is_imported_by_no_module_below_the_pages(path):
    assert not [name for name in imports_at_run_time(path) if name.split(".")[0] == "streamlit"]


def test_light_modules_leave_the_deep_learning_libraries_out_of_memory():
    code = f"import sys, importlib\nfor name in {LIGHT!r}: importlib.import_module(name)\n"
    code += "print(sorted({'tensorflow', 'keras', 'jax', 'torch', 'streamlit'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == "[]"


def test_a_waiting_run_imports_neither_pandas_nor_numpy():
    code = "import sys, leukodash.training.__main__\nprint(sorted({'pandas', 'numpy', 'pydantic'} & set(sys.modules)))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == "[]"


def test_the_file_tree_of_the_readme_names_every_module():
    text = (ROOT / "README.md").read_text()
    files = [*MODULES, *(ROOT / "pages").glob("*.py"), ROOT / "streamlit_app.py"]
    missing = [path.name for path in files if path.name != "__init__.py" and not re.search(rf"\b{path.name}\b", text)]
    assert not missing
