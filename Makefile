# swav: bare `make` lists what there is to do.
.DEFAULT_GOAL := help
.PHONY: help demo test fuzz build deps lint bench bench-peer interop-test verify clean

GO      ?= scripts/go
DATA    ?= fashion-mnist
SHARED  ?= ../shared
BACKEND ?= cpu
PHOTOS  ?= $(SHARED)/data/photos

help: ## this list
	@echo 'swav: learn image features without labels'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: ## install, build, train and report in minutes; DATA=fashion-mnist or DATA=cifar10
	@scripts/deps build "$(DATA)"
	@$(MAKE) --no-print-directory bin
	@scripts/demo "$(DATA)"

test: ## all tests, with and without cgo
	@scripts/deps build
	$(GO) test ./...
	CGO_ENABLED=0 $(GO) build ./...
	CGO_ENABLED=0 $(GO) test -short ./...

.PHONY: test-mpi soak
test-mpi: ## install Open MPI and MPICH; ranks, reference traces, killed and stopped runs
	@scripts/deps build mpi fashion-mnist
	$(GO) test -count=1 ./dist/...
	SWAV_TEST_KILLS=$(or $(KILLS),20) SWAV_TEST_STOPS=$(or $(STOPS),1) $(GO) test -count=1 -timeout 60m -run MPI ./cmd/swav

soak: ## kill, stop and cut off ranks, 100 times
	@$(MAKE) --no-print-directory test-mpi KILLS=80 STOPS=10

fuzz: ## every fuzz target for some seconds
	@scripts/fuzz 3

build: ## bin/swav; CGO_ENABLED=0 builds the slow pure Go version
	@scripts/deps build
	@$(MAKE) --no-print-directory bin

.PHONY: bin
bin:
	$(GO) build -o bin/swav ./cmd/swav

deps: ## system packages, by apt where there is apt
	@scripts/deps build $(DATA)

lint: ## gofmt, go vet, staticcheck, a build for arm64, shellcheck where installed
	@scripts/lint

bench: ## time the operators and the pipeline
	$(GO) test -run '^$$' -bench . -benchmem ./...

bench-peer: build ## time swav and PyTorch side by side (fetches 5 GB)
	bench/peer/run

interop-test: build ## check exports against PyTorch, ONNX Runtime, timm, pandas, TensorBoard, MLflow … (fetches 5 GB)
	scripts/interop-test

verify: build ## replay the reference traces of SHARED on BACKEND (cpu or ref)
	bin/swav verify --backend $(BACKEND) $(SHARED)/golden/resnet*
	bin/swav verify --augment $(SHARED)/golden/augment/*/

.PHONY: docs story
docs: ## write docs/cli.md from the commands' help
	$(GO) test ./cmd/swav -run TestCLIDocs -update

story: build ## from photos to a service, every output checked (3 minutes; PHOTOS=FOLDER)
	scripts/story $(PHOTOS) 2m

clean: ## remove what was built; runs and downloaded data stay
	rm -rf bin
