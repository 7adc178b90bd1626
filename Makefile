# Needs Go, git, make, a C compiler, and a Valkey or Redis server, which is installed when there is none.
SHELL   = /bin/bash
FUZZTIME ?= 20s
# What coverage is measured of: not the laboratory and the programs.
COVERED = $$(go list ./... | grep -vE '/(cmd|internal/(conformance|faulty|lab|model|sim))(/|$$)' | paste -sd, -)

help: ## Print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{ printf "make %-13s %s\n", $$1, $$2 }'

demo: ## Run the demo on servers of its own
	@s=$$(scripts/need-server.sh) && CTXLOCK_SERVER=$$s go run ./cmd/ctxlock-demo

test: ## Run all specs of all modules; SERVERS=DIR: with each server in DIR
	@SERVERS="$(SERVERS)" scripts/test.sh

lint: ## Check format, vet, staticcheck, go.mod and shell scripts of all modules
	@scripts/lint.sh

bench: ## Run the benchmarks against the peers (under 10 minutes): table and charts in benchmarks/results
	@s=$$(scripts/need-server.sh) && cd benchmarks && CTXLOCK_SERVER=$$s go run .

# SEED=N repeats the draws of a run; without it they are new. DURATION is in Go's notation.
SEED     ?= 0
DURATION ?= 10m
faults: ## Have faults strike this library and its peers (under 15 minutes): writes docs/faults.md
	@s=$$(scripts/need-server.sh) && scripts/need-server.sh --cc && cd faults && CTXLOCK_SERVER=$$s go run . -page ../docs/faults.md -seed $(SEED)

soak: ## Have mixed faults strike this library for DURATION (10m), and watch it
	@s=$$(scripts/need-server.sh) && scripts/need-server.sh --cc && cd faults && CTXLOCK_SERVER=$$s go run . -soak $(DURATION) -seed $(SEED)

model: ## Check a model of the protocol in all states within small bounds, with and without its rules (2 minutes)
	@go run ./internal/model

fuzz: ## Run every fuzz target for FUZZTIME (20s)
	@for p in $$(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' ./...); do \
	  for f in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' $$p/*_test.go | cut -c6-); do \
	    echo "== $$f" && go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$p || exit 1; done; done

cover: ## Measure what the specs cover: prints the total, writes cover.out
	@s=$$(scripts/need-server.sh) && \
	  CTXLOCK_SERVER=$$s go test -timeout 10m -coverpkg="$(COVERED)" -coverprofile=cover.out ./... && \
	  go tool cover -func=cover.out | tail -1

server: ## Install a server unless there is one, and print its path
	@scripts/need-server.sh

servers: ## Fetch several versions of both servers into .servers; LABELS="valkey-8.1 …": only these
	@scripts/get-servers.sh .servers $(LABELS)

# The specs with the label "control" start, stop and freeze processes: containers are not theirs to control.
COMPOSE_SPECS = go test -race -timeout 10m -count=1 . --ginkgo.label-filter='!control'
compose-test: ## Run the specs that need no control of processes on the servers of docker-compose.yml
	docker compose up --detach --wait
	@trap 'docker compose down --volumes' EXIT; export CTXLOCK_CLUSTER=127.0.0.1:7000,127.0.0.1:7001,127.0.0.1:7002; \
	  CTXLOCK_STANDALONE=127.0.0.1:6390 $(COMPOSE_SPECS) && CTXLOCK_STANDALONE=127.0.0.1:6391 $(COMPOSE_SPECS)

clean: ## Remove what was built, measured and fetched
	rm -rf .servers cover.out faults/histories

.PHONY: help demo test lint bench faults soak model fuzz cover server servers compose-test clean
