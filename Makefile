# Two commands do all the set-up: `make demo` and `make test`.
DATA_DIR ?= .trove
PYTHON ?= python3
CARGO ?= cargo
DATA ?=
# small, medium, large or none; the tests run the small one.
GENERATOR ?= small

.PHONY: help demo test lint deny fmt docs models build eval bench soak fuzz web test-web

help:
	@echo "make demo           fetch runtime and models, build, index demo/ and search it"
	@echo "make test           fetch what the tests need, then run all tests"
	@echo "make soak KILLS=100 kill the server again and again while it is written to (docs/RELIABILITY.md)"
	@echo "make fuzz           feed the parsers with broken input: SECONDS=60 each, or one TARGET=name"
	@echo "make web            build the page of web/ into web/dist; needs node and npm"
	@echo "make test-web       the page in a browser, on the server at TROVE_URL (web/README.md)"
	@echo "make lint           formatting and clippy"
	@echo "make deny           licences, sources and advisories of dependencies; needs cargo-deny"
	@echo "make build          the release build: target/release/trove"
	@echo "make models         only fetch: into $(DATA_DIR) (DATA_DIR=... for another place, GENERATOR=medium for another one)"
	@echo "make eval DATA=dir  measure quality on evaluation data that you have (docs/EVALUATION.md)"
	@echo "make bench          measure the speed of this machine (docs/BENCHMARKS.md)"
	@echo "make docs           write docs/CONFIG.md again"

# Fetches the pinned libraries and models (SHA-256 checked), builds, indexes demo/ and searches it.
demo: models build
	@bash scripts/demo.sh "$(DATA_DIR)"

# Everything the tests need, then all tests.
test: models
	TROVE_DATA_DIR="$(abspath $(DATA_DIR))" $(CARGO) test --locked --workspace

# Kills at random moments, for long; `make test` has a dozen of them. SEED tells what happens.
KILLS ?= 100
SEED ?= 1
soak: models
	TROVE_DATA_DIR="$(abspath $(DATA_DIR))" KILLS=$(KILLS) SEED=$(SEED) $(CARGO) test --locked --test soak -- --nocapture

# Guided by coverage, so much for each parser; `make test` has a moment of it. What is found is kept in fuzz/corpus.
SECONDS ?= 60
TARGET ?=
fuzz:
	FUZZ_SECONDS=$(SECONDS) FUZZ_SEED=$(SEED) RUSTC_WORKSPACE_WRAPPER="$(CURDIR)/scripts/count_coverage.sh" \
		$(CARGO) test --locked --example fuzz -- $(TARGET)

# The page is committed as built, so that cargo alone makes the program.
web:
	cd web && npm ci --ignore-scripts && npm run check && npm run test:unit && npm run build

test-web:
	cd web && npm ci --ignore-scripts && npm test

# Speeds on this machine; docs/BENCHMARKS.md says what the options are and what was measured.
bench: models
	$(CARGO) bench --locked --bench encoder
	$(CARGO) bench --locked --bench ingest
	$(CARGO) bench --locked --bench search
	$(CARGO) bench --locked --bench hot

models:
	@$(PYTHON) scripts/fetch.py --data-dir "$(DATA_DIR)" --generator "$(GENERATOR)"

build:
	$(CARGO) build --release --locked

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

# Apart from lint, since a fresh clone has no cargo-deny. Advisories need their database (deny.toml): make deny CHECKS="licenses bans sources"
# leaves them out where it is out of reach.
CHECKS ?= advisories licenses bans sources
deny:
	$(CARGO) deny --locked check $(CHECKS)

fmt:
	$(CARGO) fmt --all

docs: build
	target/release/trove config reference > docs/CONFIG.md

# The data is not shipped: docs/EVALUATION.md says what it is and where it comes from.
eval: models build
	@bash scripts/eval.sh "$(DATA_DIR)" "$(DATA)"
