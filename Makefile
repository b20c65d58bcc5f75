# The two that matter: `make demo` and `make test`. Each does all of its own set-up.
SHELL := /bin/bash
CARGO := cargo

.PHONY: help demo demo-cluster test check test-long fuzz bench parts crds http-api charts image clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

demo: ## Run the main job in one process, without a cluster, on a real gateway (KEEP=1 leaves it up)
	@scripts/demo embedded

demo-cluster: ## Run the main job on a real control plane and a real gateway, with kubectl (KEEP=1 leaves it up)
	@scripts/demo cluster

test: ## Run every check, and every test but those of test-long, on real parts too
	@scripts/test

check: ## Run every check and every test that needs no outside process
	@scripts/check

test-long: ## Run the tests that take too long for every run
	@scripts/test-long

fuzz: ## Fuzz the functions that take hostile input, for an hour (FUZZ_SECONDS=60: a minute)
	@scripts/fuzz

bench: ## Measure the heartbeat route, the set-up of 60 agents and a fleet of 1,000, each beside a bare one (release profile)
	@scripts/bench

parts: ## Build and install the real parts, once
	@scripts/parts >/dev/null

crds: ## Write crds/ and the generated pages of docs/
	@scripts/crds

http-api: ## Write docs/http-api.md from the routes and the types
	@scripts/http-api

charts: ## Write the parts of the charts that follow from other files, and deploy/install.yaml
	@scripts/charts
	@scripts/install-yaml

image: ## Build the static binary of the container image, and check its size
	@scripts/image

clean: ## Remove what was built in this checkout (the real parts stay cached)
	$(CARGO) clean --target-dir target
