# Every module of the repository that is there. `go test ./...` in the root covers
# the root module alone.
MODULES := $(patsubst %/go.mod,%,$(sort $(shell find . -name go.mod -not -path '*/testdata/*' -not -path '*/node_modules/*')))
MODULES := $(filter .,$(MODULES)) $(patsubst ./%,%,$(filter-out .,$(MODULES)))
ifeq ($(strip $(MODULES)),)
$(error no go.mod is found here)
endif
EACH = @set -e; for m in $(MODULES); do echo "== $$m: $(1)"; (cd $$m && GOWORK=off $(1)); done

TOOLS := chromium npm redis-server

GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0

.PHONY: check test tidy vet lint lint-tool vuln fuzz explore chaos bench quickstart work modules fmt

check: tidy vet test

# With the race detector, over every module. What a test needs and this machine
# lacks is left out and named here; with CI=true it is a failure.
test:
	$(call EACH,$(CURDIR)/.ci/test)
	@for tool in $(TOOLS); do command -v $$tool >/dev/null || echo "LEFT OUT: the tests that need $$tool, which is not installed"; done

tidy:
	$(call EACH,go mod tidy -diff)

vet:
	$(call EACH,go vet ./...)

lint:
	$(call EACH,go run $(GOLANGCI_LINT) run --allow-parallel-runners ./...)

lint-tool:
	@go run $(GOLANGCI_LINT) version

# Writes the files as lint wants them.
fmt:
	$(call EACH,go run $(GOLANGCI_LINT) fmt ./...)

vuln:
	$(call EACH,go run $(GOVULNCHECK) ./...)

# Each fuzz target for FUZZTIME.
FUZZTIME ?= 30s
fuzz:
	$(call EACH,$(CURDIR)/.ci/fuzz $(FUZZTIME))

# The long form of the exploration and of the mutation: an hour, and some gigabytes. And
# the simulation of SEEDS runs, some ten thousand a minute.
SEEDS ?= 1000000
explore:
	AUTHTRIP_EXPLORE=long go test -v -timeout 3h ./internal/lifecycle
	AUTHTRIP_SEEDS=$(SEEDS) go test -v -timeout 12h -run 'TestSimulation$$' .

# Kills KILLS processes while they refresh tokens, over files and Redis, and takes the
# token endpoint away for half a minute. Half an hour.
KILLS ?= 10000
chaos:
	AUTHTRIP_KILLS=$(KILLS) go test -tags chaos -count=1 -v -timeout 3h -run 'Kill|Outlive' ./filestore
	cd redisstore && GOWORK=off AUTHTRIP_KILLS=$(KILLS) go test -tags chaos -count=1 -v -timeout 3h -run 'Kill|Outlive' .

bench:
	go test -run '^$$' -bench . -benchmem .

quickstart:
	@cd examples && GOWORK=off go run ./quickstart

# A workspace for editors; it is not committed.
work:
	rm -f go.work go.work.sum && go work init $(MODULES)

modules:
	@echo $(MODULES)
