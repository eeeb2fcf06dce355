# What a person types: make demo, make test. Set-up happens by itself, once.
#   PYTHON=python3.11   the interpreter that .venv is made with
#   EXTRAS=timm,export  what make demo installs beside the package; the others install all there is

PYTHON ?= $(shell command -v python3.11 || command -v python3)
EXTRAS ?=
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test setup lint docs sanitize clean

demo: $(VENV)/.installed
	$(BIN)/fasttail demo

test: $(VENV)/.installed-all
	$(BIN)/pytest -q -n auto $(PYTEST_ARGS)

lint: $(VENV)/.installed-all
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# The pages of docs/ as a site in site/. A link or an anchor that leads nowhere is an error.
docs: $(VENV)/.installed-all
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# The decoding kernel under AddressSanitizer and UBSan, with 10,000 mutated JPEGs.
#   SANITIZE_ARGS="--images DIR"   more files to begin with
#   SANITIZE_ARGS="--fuzz DIR"     libFuzzer for an hour; its corpus grows in DIR
sanitize: $(VENV)/.installed-all
	$(BIN)/python tools/sanitize.py $(SANITIZE_ARGS)

setup: $(VENV)/.installed-all

# A stamp is newer than everything that decides what is installed, or it is all done again.
$(VENV)/.installed-all: EXTRAS = ffcv,dali,dev
$(VENV)/.installed $(VENV)/.installed-all: pyproject.toml setup.py tools/setup.sh $(wildcard fasttail/kernels/*.[ch])
	PYTHON="$(PYTHON)" VENV="$(VENV)" EXTRAS="$(EXTRAS)" sh tools/setup.sh
	@touch $(VENV)/.installed $@

clean:
	rm -rf $(VENV) build dist site *.egg-info
