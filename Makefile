# make demo shows it, make check takes minutes, make test is everything; each installs first what it needs (root).

PYTHON  = /usr/bin/python3
PYTEST  = $(PYTHON) -m pytest
VENV    = build/venv
RUFF    = 0.12.7
MYPY    = 1.17.1
# those of Debian 13
ANSIBLE = 2.19.4
ANSIBLE_LINT = 25.2.1
MITOGEN = 0.3.54
SUDO    = $(if $(filter 0,$(shell id -u)),,sudo)
DEB_DIR = build/deb
DEPS    = build/deps.stamp

packages = $(shell cat tests/packages)
version  = $(shell sed -n '1s/.*(\(.*\)).*/\1/p' debian/changelog)
# Three at once: two that mostly wait for two pairs of nodes, and one that uses what they leave of the processors.
faults   = tests/container/test_pair.py tests/container/test_lab.py
install  = tests/container/test_ansible.py
moves    = tests/container/test_vms.py tests/container/test_upgrade.py tests/container/test_releases.py
others   = tests/net $(filter-out $(faults) $(install) $(moves) tests/container/test_scenarios.py,$(wildcard tests/container/test_*.py))
quick    = tests/unit tests/cli tests/lint $(filter-out tests/scenario/test_mutants.py,$(wildcard tests/scenario/test_*.py))
worlds   = tests/container/test_scenarios.py tests/virtual/test_scenarios.py tests/virtual/test_migrate.py
sources  = Makefile README.md ansible bin completions debian docs etc lib man setup.py systemd

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH):/usr/sbin:/sbin
export PYTHONDONTWRITEBYTECODE = 1

# the modules of tests/ that are commands
module   = PYTHONPATH=lib:. $(PYTHON) -m
SECONDS  = 600

.PHONY: bare mutants worlds daily daily-containers daily-virtual playbooks playbook-install playbooks-of-guests deps check check-faults check-others check-quick test demo bench scenarios golden search docs deb clean

# Debian has no ruff, its mypy is too old for us, and the ansible-core of Debian 13 is tested beside the installed one
deps:
	$(SUDO) apt-get update --quiet
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(packages)
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check ruff==$(RUFF) mypy==$(MYPY) \
		ansible-core==$(ANSIBLE) ansible-lint==$(ANSIBLE_LINT) mitogen==$(MITOGEN)

# what a target needs is installed once, and again when the list grows
$(DEPS): tests/packages
	$(MAKE) deps
	touch $@

check: $(DEPS)
	@$(MAKE) --no-print-directory --jobs=3 check-faults check-others check-quick

# make's own variables would reach the make that builds the package in a test
check-faults:
	@MAKEFLAGS= $(PYTEST) $(faults)

check-others:
	@$(call later,$(PYTEST) $(others))

check-quick:
	@$(call later,nice $(PYTEST) $(quick))

# what runs beside another shows its report at its end
later = MAKEFLAGS= $(1) > build/$@.log 2>&1; status=$$?; cat build/$@.log; exit $$status

# two nodes under tcg need both processors; what runs in containers mostly waits
test: check
	@$(MAKE) --no-print-directory --jobs=2 playbook-install daily-containers playbooks-of-guests
	@$(MAKE) --no-print-directory daily-virtual
	@$(MAKE) --no-print-directory bare but=upgrade

# the playbooks on containers: some minutes
playbooks: playbook-install playbooks-of-guests

playbook-install: $(DEPS)
	@MAKEFLAGS= $(PYTEST) $(install)

playbooks-of-guests: $(DEPS)
	@$(call later,$(PYTEST) $(moves))

# the scenarios that are marked so, in both real worlds: half an hour
daily: daily-containers daily-virtual

daily-containers: $(DEPS)
	@$(call later,$(PYTEST) -m daily tests/container/test_scenarios.py)

daily-virtual: $(DEPS)
	$(PYTEST) -m daily tests/virtual/test_scenarios.py

# the playbooks on two virtual machines with ssh and Python, real LVM and DRBD; make test leaves out what reboots both
bare: $(DEPS)
	@MAKEFLAGS= $(PYTEST) $(if $(but),-k 'not $(but)') tests/virtual/test_install.py

# each rule taken out, and found again: some minutes
mutants: $(DEPS)
	$(PYTEST) tests/scenario/test_mutants.py

# every scenario file that can run there on the pair of containers and on the pair of virtual machines, and a guest that
# moves twenty times: hours
worlds: $(DEPS)
	$(PYTEST) $(worlds)

demo: $(DEPS)
	$(PYTHON) -m tests.lab.demo

bench: $(DEPS)
	$(PYTHON) -m tests.lab.bench

# every scenario in the simulator
scenarios: $(DEPS)
	$(PYTEST) tests/scenario/test_simulator.py

# what is written here is read in the diff before it is committed
golden: $(DEPS)
	$(module) tests.scenario.golden
	$(module) tests.scenario.failures

docs: $(DEPS)
	$(module) tests.scenario.failures

search: $(DEPS)
	$(module) tests.scenario.search --seconds $(SECONDS)

# from a copy, so that the checkout stays clean and the result lies inside it; no compiler is needed
deb:
	rm -rf $(DEB_DIR)/src
	mkdir -p $(DEB_DIR)/src
	tar -c --exclude=__pycache__ $(sources) | tar -x -C $(DEB_DIR)/src
	cd $(DEB_DIR)/src && dpkg-buildpackage --build=binary --no-sign --ignore-builtin-builddeps
	@echo $(DEB_DIR)/kisscluster_$(version)_all.deb

clean:
	rm -rf build
