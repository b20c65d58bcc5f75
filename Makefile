# The two that matter: `make demo` and `make test`. Each does all of its own set-up.
SHELL := /bin/bash
CARGO := cargo

.PHONY: help demo test parts crds image

help: ## List the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: ## Run the main job on a real control plane and a real gateway (KEEP=1 leaves it up)
	@scripts/demo

test: ## Run every check and every test, on real parts too
	@scripts/test

parts: ## Build and install the real parts, once
	@scripts/parts >/dev/null

crds: ## Write crds/ from the types
	@scripts/crds

image: ## Build the static binary of the container image
	rustup target add x86_64-unknown-linux-musl
	$(CARGO) build --release --locked --target x86_64-unknown-linux-musl --bin muster
