# `make run` serves a member on 127.0.0.1:2379; `make test` runs all that must hold.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test lint bench soak proto clean

$(VENV)/.ready: pyproject.toml requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	touch $@

run: $(VENV)/.ready
	$(BIN)/etcd $(ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check src tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(VENV)/.ready
	$(BIN)/python -m pytest $(ARGS)

bench: $(VENV)/.ready
	$(BIN)/python -m bench.run $(ARGS)

soak: $(VENV)/.ready
	BALSAD_SOAK=1 $(BIN)/python -m pytest --timeout=7200 $(ARGS)

proto: $(VENV)/.ready
	cd src && ../$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. balsad/proto/*.proto
	sed -i 's/^from google.protobuf import descriptor_pool as _descriptor_pool$$/from balsad.proto import _pool as _descriptor_pool/; s/_descriptor_pool\.Default()/_descriptor_pool.POOL/; /ValidateProtobufRuntimeVersion/,/^)/d; /runtime_version/d' src/balsad/proto/*_pb2.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist src/*.egg-info
