# make app: the app.  make test: every check.  Both install what they need into .venv on first use.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
COMPILE := $(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-annotate --no-header pyproject.toml

.PHONY: app test test-fast lint audit bench screenshots lock clean

app: .venv/.installed
	$(BIN)/python -m leukodash app

test: lint
	$(BIN)/python -m pytest -m "not browser" -n 2
	$(BIN)/python -m pytest -m browser -n 2 --dist loadfile

test-fast: .venv/.installed-dev
	$(BIN)/python -m pytest -m "not slow and not real and not browser"

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Known vulnerabilities of the locked packages, where advisories can be reached.
audit: .venv/.installed-dev
	$(BIN)/python .ci/audit.py

bench: .venv/.installed-dev
	$(BIN)/python -m benchmarks

screenshots: .venv/.installed-dev
	$(BIN)/python -m pytest tests/test_browser.py --screenshots

# The newest versions that pyproject.toml allows, for every supported Python and system, with the hashes of their files.
lock: .venv/.installed-dev
	$(COMPILE) --extra dev --output-file requirements-dev.txt
	$(COMPILE) --constraint requirements-dev.txt --output-file requirements.txt

# On Linux with an NVIDIA driver, TensorFlow's CUDA libraries come as packages of the same version.
.venv/.installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "LeukoDash needs Python 3.11, 3.12 or 3.13, for which TensorFlow is published; '$(PYTHON)' is not one of" \
		"them. Try: make app PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	@echo "Installing LeukoDash's packages into .venv (about 3 GB with TensorFlow; takes minutes on first use) ..."
	$(PIP) --require-hashes --no-deps --requirement requirements.txt
	$(PIP) --no-deps --editable .
	@if nvidia-smi >/dev/null 2>&1; then \
		version=$$($(BIN)/python -c 'from importlib.metadata import version; print(version("tensorflow"))'); \
		echo "NVIDIA GPU found: installing CUDA for TensorFlow $$version ..."; \
		$(PIP) "tensorflow[and-cuda]==$$version"; fi
	@touch $@

.venv/.installed-dev: .venv/.installed requirements-dev.txt
	$(PIP) --require-hashes --no-deps --requirement requirements-dev.txt
	@touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache
