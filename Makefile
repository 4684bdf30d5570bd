# Gust. `make help` lists the targets.
SHELL := /bin/bash
GO    ?= go
BIN   := bin/gust
N     ?= 200
SEED  ?=
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X github.com/gustflow/gust/internal/version.Version=$(VERSION)

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this help
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  \033[36m%-12s\033[0m %s\n", $$1, $$2}'

.PHONY: build
build: ## Build bin/gust (and bin/airflow, an alias)
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/gust
	@ln -sf gust bin/airflow

.PHONY: run
run: build ## Run the sample DAGs in `gust standalone`
	$(BIN) standalone --home .gust --dags-folder dags --host 127.0.0.1 --port 8080

.PHONY: test
test: ## Run all tests (no network service needed)
	$(GO) test ./...

.PHONY: vectors
vectors: ## Replay Airflow's recorded decisions (GUST_VECTORS=<folder> for others)
	@set -o pipefail; $(GO) test ./... -run Vectors -count=1 -v | grep -vE '^=== |^PASS$$|no test files|no tests to run'

.PHONY: race
race: ## Run the tests of the concurrent packages under the race detector
	$(GO) test -race -count=1 ./internal/store/... ./internal/engine/... ./internal/worker/... ./internal/tasklog/... ./internal/mask/...

.PHONY: lint
lint: ## gofmt, go vet and the architecture test
	@out=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$out" ]; then echo "gofmt -w needed: $$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) test ./internal/archtest

.PHONY: fuzz
fuzz: ## Run every fuzz target for a few seconds (FUZZTIME=10s)
	./.ci/fuzz $(or $(FUZZTIME),5s)

.PHONY: sim
sim: ## Simulate the whole system under faults: make sim N=10000 [SEED=…]
	$(GO) test ./internal/sim -run TestSimulation -count=1 -timeout 0 -v -args -n $(N) $(if $(SEED),-seed $(SEED))

.PHONY: crash
crash: build ## kill -9 the real process at random moments: make crash N=200
	$(GO) test ./internal/sim/crash -run TestKill9 -count=1 -timeout 0 -v -args -n $(N)

.PHONY: bench
bench: build ## Measure speed against bare processes in the same run
	$(GO) run ./bench

# AWS. ARCH is that of the functions: arm64 on AWS; LocalStack takes this machine's.
ARCH  ?= arm64
STAGE ?= dev

.PHONY: lambdas
lambdas: ## Build the Lambda functions into dist/ (ARCH=arm64|amd64)
	$(GO) run ./functions/zips -arch $(ARCH) -version '$(VERSION)'

.PHONY: localstack
localstack: ## Start LocalStack, deploy stage localstack to it, upload dags/
	localstack/demo.sh

.PHONY: localstack-down
localstack-down: ## Stop LocalStack and forget what is deployed there
	localstack/stop.sh

.PHONY: test-localstack
test-localstack: ## End-to-end suite on a LocalStack of its own (RUN=regexp)
	localstack/test.sh $(if $(RUN),-run '$(RUN)')

.PHONY: clean
clean: ## Remove what was built and the sample home
	rm -rf bin dist .gust
