# Each target makes what it needs: `make run` and `make test` work on a fresh machine with Python 3.11+ and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
BENCH := .venv-bench
PATHWAY := .venv-bench-pathway

.PHONY: run test check browser servers bench soak data lowest clean

run: $(READY)  ## run the demo, with its dashboard
	$(BIN)/python -m streamlab --trace

test: $(READY) browser servers  ## run the tests and the examples in the docstrings
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY)  ## style, types, layers, notebooks without outputs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/nbstripout --verify notebooks/*.ipynb

browser:  # the tests of the dashboard's page want a Chromium; without one they are skipped, and say so
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null || \
	  echo "There is no Chromium here, and it could not be installed: the page is not tested."

servers:  # the tests of brokers and of rotation use programs of the system; without them they are skipped, and say so
	@{ command -v redis-server && PATH="$$PATH:/usr/sbin" command -v nats-server && command -v logrotate; } >/dev/null || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server nats-server logrotate; } >/dev/null || \
	  echo "redis-server, nats-server or logrotate are not here, and could not be installed: what needs them is not tested."

bench: $(BENCH)/ready $(PATHWAY)/ready  ## measure against a plain loop and against other engines, in one run
	$(BENCH)/bin/python -m benchmarks

soak: $(READY) servers  ## the long tests, at full count: an hour; what was found is written to docs/soak.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[soak]'
	$(BIN)/python -m tests.soak --record docs/soak.md

data: $(READY)  ## a million lines of each kind of log, in data/generated
	mkdir -p data/generated
	for kind in app access json syslog; do \
	  $(BIN)/python data/generate.py --kind $$kind --lines 1000000 --seed 7 --out data/generated/$$kind.log; done

lowest:  ## the tests with the oldest versions that pyproject.toml admits
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/python -m uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct -e '.[dev]'
	.venv-lowest/bin/python -m pytest -n 2 --dist loadfile

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

$(BENCH)/ready: pyproject.toml benchmarks/requirements.txt
	test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dashboard]' -r benchmarks/requirements.txt
	touch $@

# A peer that cannot be installed is left out of the table; it is tried again the next time.
$(PATHWAY)/ready: benchmarks/requirements-pathway.txt
	-test -x $(PATHWAY)/bin/python || $(PYTHON) -m venv $(PATHWAY)
	-$(PATHWAY)/bin/python -m pip install --quiet --disable-pip-version-check -r $< && touch $@

clean:
	rm -rf $(VENV) $(BENCH) $(PATHWAY) .venv-lowest build dist data/generated
