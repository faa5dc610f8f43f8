# Only chains: every step is a native command that works alone after `. ./env.sh`.
STACK ?= local
export ICUPA_STACK := $(STACK)
ROLE ?= $(patsubst roles/%/molecule/default,%,$(wildcard roles/*/molecule/default))
PYTHON ?= $(shell command -v python3.11 || command -v python3)

toolchain := $(PYTHON) -m infra.toolchain
run := $(toolchain) run --

.DEFAULT_GOAL := help
.PHONY: help up down test unit system roles hosts-on-this-machine lint preview render smoke lighthouse secret secrets-age history notify tools lock bench shell

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-22s %s\n", $$1, $$2}'

up: ## bring the whole topology up on this machine, print its URLs
	@$(toolchain) ensure up
	@$(run) python -m infra.up

down: ## take it down: containers, networks, volumes and local state, its record included
	@$(toolchain) ensure up
	@$(run) python -m infra.down

test: lint unit system roles ## everything below that needs no account

unit: ## unit tests; with processes, playbooks, instruments, all without a stack; previews of every stack
	@$(toolchain) ensure unit preview
	@$(run) python -m pytest -n auto --dist worksteal tests/unit
	@$(run) python -m pytest -n auto --dist worksteal tests/integration tests/playbooks tests/instruments
	@$(run) python -m pytest -n auto --dist loadgroup --no-loadscope-reorder tests/preview

system: up ## tests of the running topology
	@$(toolchain) ensure browser
	@$(run) python -m pytest tests/system

roles: ## molecule scenario of each role, or of ROLE=name
	@$(toolchain) ensure up
	@$(run) python -m tests.molecule.images
	@set -e; for role in $(ROLE); do echo "== role $$role"; $(run) sh -c "cd roles/$$role && molecule test"; done

hosts-on-this-machine: ## make this very machine a host, twice; only with ICUPA_ALLOW_THIS_MACHINE=yes
	@$(toolchain) venv
	@$(run) python -m tests.this_machine

lint: ## every linter
	@$(toolchain) ensure lint
	@$(run) python -m tests.lint

preview: ## what `pulumi up` would change: STACK=name
	@$(toolchain) ensure preview
	@$(run) python -m infra.toolchain stack $(STACK)
	@$(run) python -m infra.preview --stack $(STACK) $(if $(COMMENT),--comment $(COMMENT))

render: ## manifests for Kubernetes in deployments/STACK/: STACK=name [STATE=file.json]
	@$(toolchain) ensure preview
	@$(run) python -m infra.render --stack $(STACK) $(if $(STATE),--state $(STATE))

smoke: ## checks from outside of a running environment: STACK=name
	@$(toolchain) ensure preview
	@$(run) ansible-playbook ansible/playbooks/smoke.yml -e stack=$(STACK)

history: ## releases, rollbacks, switches, maintenance, newest first: STACK=name [FORMAT=markdown] [VERIFY=yes]
	@$(toolchain) ensure preview
	@$(run) python -m infra.record --stack $(STACK) history $(if $(FORMAT),--format $(FORMAT)) $(if $(VERIFY),--verify)

notify: ## deliver the messages that wait, show what can't be delivered: STACK=name
	@$(toolchain) ensure preview
	@$(run) python -m infra.notify --stack $(STACK) deliver

lighthouse: ## measure the public page with a browser, which is installed: STACK=name
	@$(toolchain) ensure preview browser
	@$(run) ansible-playbook ansible/playbooks/lighthouse.yml -e stack=$(STACK)

secret: ## where a secret is and why, its age, who reads it, never its value: WHERE=name STACK=name
	@$(toolchain) ensure preview
	@$(run) python -m infra.secretstore where $(WHERE) --stack $(STACK)

secrets-age: ## ages of secrets against their periods, ends with an error where one is overdue: STACK=name
	@$(toolchain) ensure preview
	@$(run) ansible-playbook ansible/playbooks/secrets_age.yml -e stack=$(STACK)

tools: ## table of tools: version, where it came from
	@$(toolchain) tools up unit lint browser

lock: ## write constraints.txt anew from requirements.txt
	@$(toolchain) lock

bench: ## a benchmark: NAME=name; writes build/bench/NAME.json
	@$(toolchain) ensure up unit
	@$(run) python -m tests.bench $(NAME)

shell: ## a shell with the environment set
	@$(toolchain) ensure preview
	@$(run) $${SHELL:-/bin/sh}
