# One word per chore. Each target installs what it needs into .venv; with .venv in place that takes no time.
PYTHON ?= python3
BIN := .venv/bin
DEMO := out/demo
DEMO_DIALOGUE := $(DEMO)/raw/iemocap/Session1/dialog
DEMO_VIDEO := $(DEMO_DIALOGUE)/avi/DivX/Ses01F_impro01.avi
DEMO_WORDS := $(DEMO_DIALOGUE)/transcriptions/Ses01F_impro01.txt
SMALL := --set width=8 --set hidden=64 --set layers=1 --set feed_forward=64 --set lr=0.001

.PHONY: install demo test lint bench bench-sparse bench-gpu clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# Small raw corpora, both datasets, their proofs and report pages; then a small model, its page, and a prediction page.
demo: install $(DEMO)/raw/iemocap/expected.json $(DEMO)/raw/mosei/expected.json $(DEMO)/raw/full/expected.json
	$(BIN)/mesm-data doctor iemocap --raw $(DEMO)/raw/iemocap --out $(DEMO)
	$(BIN)/mesm-data build iemocap --raw $(DEMO)/raw/iemocap --out $(DEMO)/iemocap --split random --seed 0 --max-issues 30%
	$(BIN)/mesm-data build mosei --raw $(DEMO)/raw/mosei --out $(DEMO)/mosei --max-issues 30%
	$(BIN)/mesm-data verify $(DEMO)/iemocap
	$(BIN)/mesm-data verify $(DEMO)/mosei
	$(BIN)/mesm-data verify-splits iemocap --raw $(DEMO)/raw/full --lists $(DEMO)/raw/full/lists --expected $(DEMO)/raw/full/expected.json
	$(BIN)/mesm-data report $(DEMO)/iemocap
	$(BIN)/mesm-data report $(DEMO)/mosei
	$(BIN)/mesm train $(DEMO)/iemocap --model mesm --text-encoder tiny --epochs 4 $(SMALL) --out $(DEMO)/run
	$(BIN)/mesm predict $(DEMO_VIDEO) --transcript $(DEMO_WORDS) --checkpoint $(DEMO)/run --out $(DEMO)/timeline.html
	@echo
	@echo "Open in a browser: $(CURDIR)/$(DEMO)/iemocap/report.html, $(CURDIR)/$(DEMO)/mosei/report.html,"
	@echo "$(CURDIR)/$(DEMO)/run/page.html and $(CURDIR)/$(DEMO)/timeline.html"

$(DEMO)/raw/iemocap/expected.json: | install
	rm -rf $(@D) && $(BIN)/mesm-data synth iemocap --out $(@D)

$(DEMO)/raw/mosei/expected.json: | install
	rm -rf $(@D) && $(BIN)/mesm-data synth mosei --out $(@D)

$(DEMO)/raw/full/expected.json: | install
	rm -rf $(@D) && $(BIN)/mesm-data synth iemocap --full-text --out $(@D)

test: install
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal --durations 10

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy

bench: install bench-sparse
	$(BIN)/python -m benchmarks.bench_build
	$(BIN)/python -m benchmarks.bench_faces
	$(BIN)/python -m benchmarks.bench_train
	$(BIN)/python -m benchmarks.bench_report
	$(BIN)/python -m benchmarks.bench_predict
	$(BIN)/python -m benchmarks.bench_features

bench-sparse: install
	$(BIN)/python -m benchmarks.bench_sparse

# Needs a GPU, torch and triton, and nothing else installed: run it with the python that has them.
bench-gpu:
	$(PYTHON) -m benchmarks.bench_gpu

clean:
	rm -rf out runs features .pytest_cache .mypy_cache .ruff_cache
