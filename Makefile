# make app: the app.  make test: every check.  Both install what they need into .venv on first use.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: app test test-fast lint bench lock clean

app: .venv/.installed
	$(BIN)/python -m streamlit run streamlit_app.py

test: lint
	$(BIN)/python -m pytest -m "not browser" -n 2
	$(BIN)/python -m pytest -m browser -n 2 --dist loadfile

test-fast: .venv/.installed-dev
	$(BIN)/python -m pytest -m "not slow and not real and not browser"

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: .venv/.installed-dev
	$(BIN)/python -m benchmarks

lock: .venv/.installed-dev
	$(PIP) uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --quiet --no-header --no-annotate \
		requirements.txt -o requirements.lock

# On Linux with an NVIDIA driver, TensorFlow's CUDA libraries come as packages of the same version.
.venv/.installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "LeukoDash needs Python 3.11 or newer; '$(PYTHON)' is older. Try: make app PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	@echo "Installing LeukoDash's packages into .venv (about 2 GB with TensorFlow; minutes on first use) ..."
	$(PIP) --requirement requirements.lock
	@if nvidia-smi >/dev/null 2>&1; then \
		version=$$($(BIN)/python -c 'from importlib.metadata import version; print(version("tensorflow"))'); \
		echo "NVIDIA GPU found: installing CUDA for TensorFlow $$version ..."; \
		$(PIP) "tensorflow[and-cuda]==$$version"; fi
	@touch $@

.venv/.installed-dev: .venv/.installed requirements-dev.txt
	$(PIP) --constraint requirements.lock --requirement requirements-dev.txt
	@touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache
