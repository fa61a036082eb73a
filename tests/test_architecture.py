"""The layers of the design: who may import whom, and what light modules leave out of memory."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LAYERS = [
    {
        *("atomic_write", "bounded_read", "byte_cache", "cache_folder", "csv_text", "errors", "log"),
        *("progress", "settings"),
    },
    {"models"},
    {"figures"},
    {"data", "evaluation", "smears"},
    {"config"},
    {"runs"},
    {"jobs"},
    {"studies"},
    {"training", "cam", "inference", "explain", "export"},
    {"cli", "__main__"},
    {"app"},
]
MODULES = sorted(path for path in (ROOT / "leukodash").rglob("*.py") if path.name != "__init__.py")
LIGHT = [
    "leukodash.__main__",
    "leukodash.cam.methods",
    "leukodash.cam.pooled_network",
    "leukodash.config.run_config",
    "leukodash.data.dataset",
    "leukodash.data.demo_cells",
    "leukodash.data.images",
    "leukodash.data.split",
    "leukodash.evaluation.metrics",
    "leukodash.inference.answer_summary",
    "leukodash.inference.classify_files",
    "leukodash.inference.sample_cells",
    "leukodash.jobs.launch",
    "leukodash.models.backbones",
    "leukodash.models.weights",
    "leukodash.runs.run_folder",
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


def layer(module):
    return next(number for number, rooms in enumerate(LAYERS) if module.split(".")[1] in rooms)


def test_modules_import_from_their_own_layer_or_below():
    too_high = [
        (name_of(path), name)
        for path in MODULES
        for name in imports_at_run_time(path)
        if name.startswith("leukodash.") and layer(name) > layer(name_of(path))
    ]
    assert not too_high


def test_no_module_name_stands_twice():
    files = [*MODULES, *(ROOT / "benchmarks").glob("*.py"), *(ROOT / "tests").glob("*.py"), *ROOT.glob("*.py")]
    names = Counter(path.name for path in files if path.name not in ("__init__.py", "__main__.py"))
    assert not [name for name, count in names.items() if count > 1]


def test_the_folder_of_pages_holds_pages_alone():
    assert sorted(path.stem for path in (ROOT / "pages").rglob("*.py")) == sorted(
        ["classify", "compare", "data", "lesson", "train"]
    )


def shown(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_light_modules_leave_the_deep_learning_libraries_out_of_memory():
    code = f"import sys, importlib\nfor name in {LIGHT!r}: importlib.import_module(name)\n"
    code += "print(sorted({'tensorflow', 'keras', 'jax', 'torch', 'streamlit'} & set(sys.modules)))"
    assert shown(code).strip() == "[]"


def test_the_first_page_leaves_deep_learning_and_statistics_out_of_memory():
    code = "import sys, leukodash.app.home_page, leukodash.app.classify.classify_page\n"
    code += "print(sorted({'tensorflow', 'keras', 'sklearn', 'statsmodels', 'scipy.stats'} & set(sys.modules)))"
    assert shown(code).strip() == "[]"


def test_a_waiting_run_imports_neither_pandas_nor_numpy():
    code = "import sys, leukodash.training.__main__\nprint(sorted({'pandas', 'numpy', 'pydantic'} & set(sys.modules)))"
    assert shown(code).strip() == "[]"


def test_the_readme_names_every_room():
    text = (ROOT / "README.md").read_text()
    rooms = [path for path in (ROOT / "leukodash").rglob("__init__.py") if path.parent.name != "leukodash"]
    assert not [path.parent.name for path in rooms if f"{path.parent.name}/" not in text]
