"""What is installed: declared dependencies, pinned versions, and the wheel."""

import ast
import os
import re
import runpy
import socket
import subprocess
import sys
import tomllib
import zipfile
from contextlib import suppress
from importlib.metadata import packages_distributions
from pathlib import Path
from urllib.request import urlopen

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from test_training import until

import leukodash

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    name: [Requirement(text) for text in texts if not text.startswith("leukodash[")]
    for name, texts in PROJECT["optional-dependencies"].items()
}
CORE = [Requirement(text) for text in PROJECT["dependencies"]]


def names(requirements):
    return {canonicalize_name(requirement.name) for requirement in requirements}


def imported_packages(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                yield node.module.split(".")[0]


def test_what_the_package_imports_is_what_it_declares():
    installed = packages_distributions()
    imported = set(imported_packages("leukodash")) - sys.stdlib_module_names - {"leukodash"}
    optional = {"jax", "torch"}  # other backends of Keras, used only where they are there already
    needed = {canonicalize_name(name) for module in imported - optional for name in installed.get(module, [module])}
    assert needed == names(CORE)


def entries(file):
    """Each requirement of a lock with the hashes of its files: lines that end in a backslash go on."""
    return (ROOT / file).read_text().replace("\\\n", " ").splitlines()


def pinned(file):
    return [Requirement(entry.partition(" --hash")[0]) for entry in entries(file)]


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_every_package_is_pinned_with_the_hashes_of_its_files(file):
    hashed = re.compile(r"\S+==\S+( ; .+?)?( +--hash=sha256:[0-9a-f]{64})+")
    assert [entry for entry in entries(file) if not hashed.fullmatch(entry)] == []


@pytest.mark.parametrize(
    ("packages", "status", "words"),
    [
        ([{"name": "a", "skip_reason": "not found"}], 0, "no advisories can be reached"),
        ([{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "x"}], 0, "1 of 2 packages"),
        (
            [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}],
            1,
            "a 1 has CVE-1, fixed in 2.",
        ),
    ],
)
def test_the_audit_fails_on_a_known_vulnerability_and_says_if_nothing_was_looked_up(packages, status, words, capsys):
    audit = runpy.run_path(str(ROOT / ".ci" / "audit.py"))
    assert audit["told"](packages) == status
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "declared"),
    [("requirements.txt", CORE), ("requirements-dev.txt", CORE + EXTRAS["dev"])],
)
def test_pinned_versions_satisfy_the_project(file, declared):
    versions = [(canonicalize_name(pin.name), str(pin.specifier).removeprefix("==")) for pin in pinned(file)]
    for requirement in declared:
        found = [version for name, version in versions if name == canonicalize_name(requirement.name)]
        assert found, requirement
        assert all(version in requirement.specifier for version in found), requirement


def test_the_app_and_its_tests_are_pinned_to_the_same_versions():
    assert set(pinned("requirements.txt")) < set(pinned("requirements-dev.txt"))


@pytest.fixture(scope="module")
def installed_wheel(tmp_path_factory):
    """The wheel's content in a folder of its own, as pip would put it there."""
    build = pytest.importorskip("hatchling.build")
    folder = tmp_path_factory.mktemp("wheel")
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        name = build.build_wheel(str(folder))
    finally:
        os.chdir(before)
    assert name == f"leukodash-{leukodash.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(folder / name) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_the_package_and_what_the_app_needs(installed_wheel):
    files = {str(path.relative_to(installed_wheel)) for path in installed_wheel.rglob("*") if path.is_file()}
    command = ["git", "ls-files", "leukodash", "streamlit_app.py", ".streamlit", "checkpoints/published"]
    tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    expected = {name if name.startswith("leukodash/") else f"leukodash/shipped/{name}" for name in tracked}
    assert expected == {name for name in files if not name.startswith("leukodash-")}


@pytest.mark.slow
def test_the_wheel_serves_the_app(installed_wheel, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "leukodash", "app", "--server.headless", "true", "--server.port", str(port)]

    def healthy():
        with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5) as answer:
            return answer.read() == b"ok"
        return False

    environment = os.environ | {"PYTHONPATH": str(installed_wheel)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as server:
        try:
            until(healthy, 60)
        finally:
            server.terminate()
