# Two commands do everything: `make demo` and `make test`. Both can be interrupted and run again.
SHELL := /bin/bash
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/cht-k3s
VENV := $(CACHE)/venv
PYTHON := $(VENV)/bin/python
COLLECTION := $(CACHE)/collections/ansible_collections/cht/k3s
export PATH := $(VENV)/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CACHE)/collections

.PHONY: help setup lab demo test test-all lint sanity unit clean

help:  ## Show what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup:  ## Install what a controller and the lab need; link the checkout into a collections path
	@python3 tests/setup_machine.py

lab: setup  ## Start the lab: vCenter, mirror, twelve nodes
	@tests/lab/lab up

demo: setup  ## Build a whole cluster in the lab and show it
	@$(PYTHON) tests/demo.py

test: setup  ## Lint, sanity, unit tests and the main scenarios on the lab (what CI runs)
	@$(PYTHON) tests/run.py --set ci

test-all: setup  ## Every scenario, resumable; writes tests/results.json
	@$(PYTHON) tests/run.py --set all

lint: setup  ## Only the linters
	@$(PYTHON) tests/run.py python lint

sanity: setup  ## Only ansible-test sanity
	@$(PYTHON) tests/run.py sanity

unit: setup  ## Only the unit tests
	@$(PYTHON) tests/run.py unit

clean:  ## Take the lab away: processes, mounts, namespaces, data (the cache of builds stays)
	@if [ -x $(PYTHON) ]; then tests/lab/lab down; fi
	@rm -rf tests/output tests/results.json
