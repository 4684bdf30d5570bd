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
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  \033[36m%-16s\033[0m %s\n", $$1, $$2}'

# The web UI, embedded in bin/gust and in the API function. Without Node.js 20.19 or newer they are built without it.
NODE_OK := $(shell node -e 'const [a, b] = process.versions.node.split("."); if (a > 20 || (a == 20 && b >= 19)) console.log("yes")' 2>/dev/null)
WEB_BUILT := $(if $(NODE_OK),web/dist/index.html)

web/node_modules/.package-lock.json: web/package-lock.json
	npm --prefix web ci --no-audit --no-fund --loglevel=error
	@touch $@

web/dist/index.html: web/node_modules/.package-lock.json web/index.html web/vite.config.ts $(shell find web/src web/public -type f)
	npm --prefix web run --silent build -- --logLevel warn
	@touch $@

.PHONY: web
web: web/dist/index.html ## Build the web UI into web/dist

.PHONY: build
build: $(WEB_BUILT) ## Build bin/gust (and bin/airflow, an alias)
	@[ -n '$(NODE_OK)' ] || echo 'note: Node.js 20.19 or newer is missing: bin/gust is built without the web UI' >&2
	@mkdir -p bin
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/gust
	@ln -sf gust bin/airflow

.PHONY: run
run: build ## Run the sample DAGs in `gust standalone`
	$(BIN) standalone --home .gust --dags-folder dags --host 127.0.0.1 --port 8080

.PHONY: test
test: ## Run all tests (no network service needed)
	$(GO) test ./...

.PHONY: test-web
test-web: build ## Test the web UI: types, lint, logic, size, and a real Chromium against a real server (pictures in web/build)
	@[ -n '$(NODE_OK)' ] || { echo 'error: the web UI needs Node.js 20.19 or newer' >&2; exit 1; }
	cd web && npm run --silent typecheck && npm run --silent lint && npm test --silent && npm run --silent size
	cd web && time npm run --silent e2e

.PHONY: vectors
vectors: ## Replay Airflow's recorded decisions (GUST_VECTORS=<folder> for others)
	@set -o pipefail; $(GO) test ./... -run Vectors -count=1 -v | grep -vE '^=== |^PASS$$|no test files|no tests to run'

.PHONY: race
race: ## Run the tests of the concurrent packages under the race detector
	$(GO) test -race -count=1 ./internal/store/... ./internal/engine/... ./internal/worker/... ./internal/tasklog/... ./internal/mask/... ./internal/auth/...

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

.PHONY: sim-shared
sim-shared: ## Simulate schedulers that come and go on a shared store, with AWS's delivery: make sim-shared N=10000
	$(GO) test ./internal/engine -run TestManySchedulers -count=1 -timeout 0 -args -shared.seeds $(N)

.PHONY: test-collectors
test-collectors: ## Export metrics, traces and lineage to the real collectors (fetched once; minutes the first time)
	GUST_COLLECTORS=$${GUST_COLLECTORS:-$(CURDIR)/.work/collectors} $(GO) test ./internal/observe -run Collector -count=1 -timeout 30m -v

.PHONY: crash
crash: build ## kill -9 the real process at random moments: make crash N=200
	$(GO) test ./internal/sim/crash -run TestKill9 -count=1 -timeout 0 -v -args -n $(N)

.PHONY: bench
bench: build ## Measure speed against bare processes in the same run
	$(GO) run ./bench

.PHONY: bench-aws
bench-aws: ## Compute speed and price on AWS, emulated (minutes); GUST_LATENCY=FILE for other latencies
	GUST_EMU_LONG=1 $(GO) test ./bench/awsemu -count=1 -timeout 0 -v

# AWS. STAGE is dev, prod or localstack; ARCH that of the functions: arm64 on AWS, this machine's on LocalStack.
# CONFIG names a file of settings (infra/settings), CDKFLAGS is handed to the CDK.
STAGE ?= dev
ARCH  ?= $(if $(filter localstack,$(STAGE)),$(shell $(GO) env GOARCH),arm64)
CDK   := infra/node_modules/.bin/cdk
CDKRUN = $(CDK) --app dist/cdkapp --output dist/cdk.out --no-notices --context stage=$(STAGE) --context arch=$(ARCH) $(if $(CONFIG),--context config=$(CONFIG)) $(CDKFLAGS)
export CDK_DISABLE_CLI_TELEMETRY ?= true
export JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION ?= 1

$(CDK): infra/package-lock.json
	@command -v npm >/dev/null || { echo 'npm is missing (the CDK needs Node.js 20): https://nodejs.org, or apt-get install nodejs npm' >&2; exit 1; }
	npm --prefix infra ci --no-audit --no-fund --loglevel=error
	@touch $@

.PHONY: cdkapp
cdkapp: $(CDK)
	cd infra && $(GO) build -o ../dist/cdkapp .

.PHONY: bootstrap
bootstrap: $(CDK) ## Prepare an AWS account and region for the CDK, once
	cd infra && node_modules/.bin/cdk bootstrap --no-notices $(CDKFLAGS)

.PHONY: synth
synth: lambdas cdkapp ## Write the CloudFormation templates of a stage to dist/cdk.out (STAGE=dev|prod|localstack)
	$(CDKRUN) synth --quiet --all
	@ls -1 dist/cdk.out/*.template.json

.PHONY: diff
diff: lambdas cdkapp ## Show what a deploy would change
	$(CDKRUN) diff --all

.PHONY: deploy
deploy: lambdas cdkapp ## Deploy to the AWS account of the environment
	$(CDKRUN) deploy --all

.PHONY: destroy
destroy: lambdas cdkapp ## Remove a deployment; prod keeps its data
	$(CDKRUN) destroy --all

.PHONY: lint-infra
lint-infra: ## cfn-lint over the templates of every stage (installs it in a venv)
	infra/lint.sh

.PHONY: test-infra
test-infra: ## Test the CDK app: templates, rights, settings
	cd infra && $(GO) vet ./... && $(GO) test ./...

.PHONY: lambdas
lambdas: $(WEB_BUILT) ## Build the Lambda functions into dist/ (ARCH=arm64|amd64)
	$(GO) run ./functions/zips -arch $(ARCH) -version '$(VERSION)'

.PHONY: localstack
localstack: ## Start LocalStack, deploy stage localstack to it, upload dags/
	localstack/demo.sh

.PHONY: localstack-down
localstack-down: ## Stop LocalStack and forget what is deployed there
	localstack/stop.sh

.PHONY: test-dynamodb
test-dynamodb: ## Driver, store, engine and recorded cases on DynamoDB Local
	localstack/install-dynamodb-local.sh
	GUST_REQUIRE_DYNAMODB=1 $(GO) test -count=1 ./internal/store/kv/dynamokv ./internal/engine ./internal/scheduler

.PHONY: test-upgrade
test-upgrade: ## Old version, new version, old version on the same data, with runs under way
	$(GO) test ./packaging/upgrade -count=1 -v

.PHONY: test-localstack
test-localstack: ## End-to-end suite on a LocalStack of its own (RUN=regexp)
	localstack/test.sh $(if $(RUN),-run '$(RUN)')

# A release names its version; the default of VERSION is for builds in between.
RELEASE = $(if $(filter command environment,$(firstword $(origin VERSION))),$(VERSION),$(error name the version: make $@ VERSION=0.1.0))

.PHONY: release
release: ## Build archives and checksums of a release into dist/release: make release VERSION=0.1.0
	$(GO) run ./packaging/release -version '$(RELEASE)' $(RELEASEFLAGS)

.PHONY: release-check
release-check: ## Build that release again elsewhere and compare every byte (FRESH=1: with an empty cache)
	packaging/release-check.sh '$(RELEASE)'

.PHONY: image
image: ## Build the container image of a release with podman, buildah or docker (BASE=bootstrap: without a registry)
	packaging/image.sh '$(RELEASE)'

.PHONY: test-image
test-image: ## Start that image as packaging/compose.yaml does, run the samples in it, stop it
	packaging/test-image.sh '$(RELEASE)'

.PHONY: clean
clean: ## Remove what was built and the sample home
	rm -rf bin dist .gust web/build web/dist/assets web/dist/index.html
