# What is more than one command is Go: see the folders run, prove, bench and
# dist in test/.

GO ?= go
FUZZTIME ?= 30s

# A test may bring what it needs: packages as root, else into .cache/.
export INSTALL ?= 1

.DEFAULT_GOAL := help
.PHONY: help run demo test test-fast test-faults test-drivers test-mutants test-regress bench bench-cores bench-levels pgo bench-micro bench-instructions dist build fuzz fuzz-diff lint need-go

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

need-go:
	@command -v $(GO) >/dev/null || { echo "pgpoold is built with Go 1.26 or newer: get it at https://go.dev/dl/" >&2; exit 1; }

run: need-go ## start pgpoold on SUPABASE_POSTGRES_DSN, or on a private PostgreSQL
	@$(GO) build -o bin/run ./test/run && exec bin/run

demo: need-go ## start pgpoold on a private PostgreSQL
	@$(GO) build -o bin/run ./test/run && exec bin/run -demo

test: need-go ## prove the project, installing what that takes
	@$(GO) build -o bin/prove ./test/prove && exec bin/prove

test-fast: need-go ## test with Go and PostgreSQL alone, in under two minutes
	@$(GO) build -o bin/prove ./test/prove && exec bin/prove -fast

test-faults: need-go ## cut, reset, stall and split at every place of every wire script (hours)
	PGPOOLD_TEST=all $(GO) test -count=1 -timeout 12h ./test/conformance

test-mutants: need-go ## bring defects back, one by one, and see which test fails
	@$(GO) run ./test/mutants $(MUTANTS)

test-change: need-go ## an hour of reloads, resizes, upgrades and restarts under load, without one failed transaction
	@PGPOOLD_CHANGE=1h INSTALL=1 $(GO) test ./test/change -run '^TestEverythingChanges$$' -count 1 -timeout 90m -v

test-drivers: need-go ## every driver with 200 tasks on 20 servers for 20 seconds
	PGPOOLD_TEST=full PGPOOLD_DRIVERS=long $(GO) test -count=1 -timeout 2h -v ./test/drivers

test-regress: need-go ## run PostgreSQL's own regression tests, directly and through pgpoold
	PGPOOLD_TEST=full PGPOOLD_REGRESS=$${PGPOOLD_REGRESS:-bring} $(GO) test -count=1 -v -timeout 2h ./test/regress

bench: need-go ## measure beside PgBouncer, into docs/benchmarks.md
	@$(GO) build -o bin/bench ./test/bench && exec bin/bench

bench-cores: need-go ## what more cores bring, on a machine that has them
	@$(GO) run ./test/bench -targets pgpoold -protocols simple+cores=1,simple+cores=2,simple+cores=4,simple+cores=8 -clients 200

bench-levels: need-go ## what each level of session state costs, into docs/benchmarks.md
	@$(GO) run ./test/bench -levels

bench-micro: need-go ## the benchmarks beside the code; BASE=main compares, BENCH=Ledger chooses
	@$(GO) run ./test/micro -base "$(BASE)" -bench "$(or $(BENCH),.)"

bench-instructions: need-go ## instructions of a transaction, by function with TOP=40, in QEMU
	@$(GO) run ./test/instructions -top $(or $(TOP),0) $(TRANSACTION)

pgo: need-go ## record what the compiler optimises pgpoold for, into cmd/pgpoold/default.pgo
	@$(GO) run ./test/bench -pgo

dist: need-go ## build the tarballs of a release, into dist/
	@$(GO) run ./test/dist

build: need-go ## build bin/pgpoold
	$(GO) build -o bin/pgpoold ./cmd/pgpoold

fuzz: need-go ## run every fuzz target for FUZZTIME
	@$(GO) build -o bin/prove ./test/prove && exec bin/prove -fuzz $(FUZZTIME)

fuzz-diff: need-go ## compare random programs with PostgreSQL for FUZZTIME
	PGPOOLD_FUZZDIFF=$(FUZZTIME) PGPOOLD_FUZZDIFF_SEED=$(or $(SEED),now) $(GO) test -count=1 -timeout 0 -run TestDifferential -v ./test/fuzzdiff

lint: need-go ## gofmt, go vet and staticcheck
	@$(GO) build -o bin/prove ./test/prove && exec bin/prove -lint
