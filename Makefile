# For developers. Users need only ./run and ./test.
.DEFAULT_GOAL := help
.PHONY: help bench bench-peers check format test chaos fuzz growth hung-queue lock memory polling reads start-up wheel clean

python := .venv/bin/python

help: ## Say what can be done
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

.venv/installed: requirements-dev.txt
	@sh -eu -c 'root=$$PWD; . deploy/local/bootstrap.sh; bootstrap requirements-dev.txt; touch .venv/installed'

bench-peers: .venv/installed ## Install what `make bench` compares Safekeep with
	@sh -eu -c 'root=$$PWD; . deploy/local/bootstrap.sh; bootstrap requirements-bench.txt'

check: .venv/installed ## Lint, formatting and strict types
	$(python) -m ruff check .
	$(python) -m ruff format --check .
	$(python) -m mypy

format: .venv/installed ## Format the code and mend what can be mended by itself
	$(python) -m ruff check --fix .
	$(python) -m ruff format .

test: ## Run all tests (the same as ./test)
	./test

bench: .venv/installed ## Measure how quick all of it is, beside limits and peers; ONLY="accept read" ROUNDS=3 QUICK=1 JSON=file COMPARE=file
	$(python) -m tests.bench $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(QUICK),--quick) \
	  $(if $(JSON),--json $(JSON)) $(if $(COMPARE),--compare $(COMPARE)) $(if $(WITHOUT_PEERS),--without-peers)

chaos: .venv/installed ## Break a stack while it works, and prove that nothing is lost; JOBS=200 SEED=7 WORKERS=3 JSON=file
	$(python) -m tests.chaos $(if $(JOBS),--jobs $(JOBS)) $(if $(SEED),--seed $(SEED)) \
	  $(if $(WORKERS),--workers $(WORKERS)) $(if $(JSON),--json $(JSON))

fuzz: .venv/installed ## Send a running API all that its document allows and more; EXAMPLES=200 SECONDS=600 SEED=7
	$(python) -m tests.fuzz $(if $(EXAMPLES),--examples $(EXAMPLES)) $(if $(SECONDS),--seconds $(SECONDS)) \
	  $(if $(SEED),--seed $(SEED))

lock: .venv/installed ## Write the lock files anew from pyproject.toml; UPGRADE=1 takes newer versions
	sh deploy/lock.sh

hung-queue: .venv/installed ## Measure what a queue that hangs costs the callers of the API
	$(python) -m tests.bench.hung_queue

reads: .venv/installed ## Measure reads of jobs, and 10 000 who wait for one; WAITERS=1000 ROUNDS=3 JSON=file
	$(python) -m tests.bench.reads $(if $(WAITERS),--waiters $(WAITERS)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	  $(if $(JSON),--json $(JSON))

growth: .venv/installed ## Measure what statements cost with ten million finished jobs; SIZES=10000,1000000 JSON=file
	$(python) -m tests.bench.growth $(if $(SIZES),--sizes $(SIZES)) $(if $(JSON),--json $(JSON))

memory: .venv/installed ## Measure a worker's memory over 100 000 steps
	$(python) -m tests.bench.memory

start-up: .venv/installed ## Measure how long starting takes: imports, API, worker, ./run
	$(python) -m tests.bench.start

polling: .venv/installed ## Poll many open jobs and see whether all are in time; OPEN=20000 INTERVAL=12 MINUTES=1 JSON=file
	$(python) -m tests.bench.polling $(if $(OPEN),--open $(OPEN)) $(if $(INTERVAL),--interval $(INTERVAL)) \
	  $(if $(MINUTES),--minutes $(MINUTES)) $(if $(JSON),--json $(JSON))

wheel: .venv/installed ## Build the wheel into dist/
	$(python) -m hatchling build -t wheel

clean: ## Remove what was built; keeps .venv and .safekeep
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
