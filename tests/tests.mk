# The tests. make check: all tiers, in under 25 minutes; make check-all: with the whole boot matrix (hours).
# One tier: make unit, make fuzz-smoke, make guests, make system. One system test: make system TESTS='-k clock'

# Unit tests are host programs. The first lines of tests/unit/test_NAME.c say what they link:
#   /* sources: hypervisor/a/b.c hypervisor/c/d.c */     and, where needed,     /* libs: -lz */
UNIT_CFLAGS := -std=gnu11 -g -O1 -Wall -Wextra -Wno-unused-parameter -Wno-unused-function -DCROFT_HOST_TEST -fsanitize=address,undefined \
	-fno-sanitize-recover=all -fno-omit-frame-pointer -fno-strict-aliasing -fwrapv -I$(HV) -Itests/unit -I$(LIBXEN)
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(sort $(wildcard tests/unit/test_*.c)))
# make coverage builds all of them anew, with clang's counters.
UNIT_CFLAGS += $(if $(COVERAGE),-fprofile-instr-generate -fcoverage-mapping -Wno-everything)
unit_header = $(shell sed -n '1,5s,^/\* $(1): \(.*\) \*/.*,\1,p' $(2))

define UNIT_RULE
$(BUILD)/unit/$(1): tests/unit/$(1).c $(call unit_header,sources,tests/unit/$(1).c)
	@mkdir -p $$(@D)
	@echo "  test $(1)"
	@$$(CC) $$(UNIT_CFLAGS) -MM -MP -MT $$@ tests/unit/$(1).c $(call unit_header,sources,tests/unit/$(1).c) >$$@.d
	@$$(CC) $$(UNIT_CFLAGS) tests/unit/$(1).c $(call unit_header,sources,tests/unit/$(1).c) -o $$@ -lcmocka $(call unit_header,libs,tests/unit/$(1).c)
endef
$(foreach t,$(notdir $(UNIT_TESTS)),$(eval $(call UNIT_RULE,$(t))))
-include $(UNIT_TESTS:=.d)

# Fuzz targets (libFuzzer) say what they link in the same way; fuzz-smoke runs each for FUZZ_SECONDS, fuzz for FUZZ_TIME, both from
# what is in tests/fuzz/corpus on. FUZZ_SANITIZERS= leaves the sanitizers out (docs/debugging.md).
FUZZ_SECONDS ?= 10
FUZZ_TIME ?= 3600
FUZZ_SANITIZERS ?= ,address,undefined
FUZZ_CFLAGS := $(filter-out -fsanitize=%,$(UNIT_CFLAGS)) -fsanitize=fuzzer$(FUZZ_SANITIZERS) -Wno-unknown-warning-option \
	-Wno-gnu-variable-sized-type-not-at-end -fsanitize-coverage-ignorelist=tests/fuzz/no-coverage
FUZZ_TESTS := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))
define FUZZ_RULE
$(BUILD)/fuzz/$(1): tests/fuzz/$(1).c $(call unit_header,sources,tests/fuzz/$(1).c)
	@mkdir -p $$(@D)
	@echo "  fuzz $(1)"
	@clang $$(FUZZ_CFLAGS) -MM -MP -MT $$@ tests/fuzz/$(1).c $(call unit_header,sources,tests/fuzz/$(1).c) >$$@.d
	@clang $$(FUZZ_CFLAGS) tests/fuzz/$(1).c $(call unit_header,sources,tests/fuzz/$(1).c) -o $$@ $(call unit_header,libs,tests/fuzz/$(1).c)
endef
$(foreach t,$(notdir $(FUZZ_TESTS)),$(eval $(call FUZZ_RULE,$(t))))
-include $(FUZZ_TESTS:=.d)

# xdist's -n 2: two emulators at a time
TESTS ?=
PYTEST := /usr/bin/python3 -B -m pytest -p no:cacheprovider -q tests/system -n 2 --durations=15 --dist loadgroup

.PHONY: unit fuzz-smoke fuzz coverage coverage-run system system-all check check-all
unit: $(UNIT_TESTS)
	@tests/run-unit $(BUILD) $(UNIT_TESTS)
fuzz-smoke: $(FUZZ_TESTS)
	@tests/run-fuzz $(BUILD) $(FUZZ_SECONDS) $(FUZZ_TESTS)
fuzz: $(FUZZ_TESTS)
	@tests/run-fuzz $(BUILD) $(FUZZ_TIME) $(FUZZ_TESTS)
# Which lines of the hypervisor the unit tests and FUZZ_SECONDS of each fuzzer reach: a table, a line a file
coverage:
	@tools/need check coverage
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/coverage CC=clang COVERAGE=y coverage-run
coverage-run: $(UNIT_TESTS) $(FUZZ_TESTS)
	@tests/coverage $(BUILD) $(FUZZ_SECONDS) "$(UNIT_TESTS)" "$(FUZZ_TESTS)"

SYSTEM_NEEDS := $(BUILD)/croft.elf $(BUILD)/croft.gz $(ROOTDISK) $(INITRD) $(TINY_INITRD) $(GUEST_INITRD) guests-build $(BUILD)/bench/small.cpio
system: $(SYSTEM_NEEDS)
	@tools/need run check
	$(PYTEST) -m 'not extra' $(TESTS)
system-all: $(SYSTEM_NEEDS)
	@tools/need run check
	$(PYTEST) $(TESTS)

# PVH guests on VT-x with EPT, which only Bochs has among Debian's emulators: not part of check, for it takes a quarter of an hour
.PHONY: check-vtx
check-vtx: $(BUILD)/croft.elf $(BUILD)/croft.gz $(ROOTDISK) $(GUEST_INITRD) guests-build
	@tools/need run check
	$(PYTEST) -k test_vtx $(TESTS)

# Models of what is concurrent (Spin) and proofs of what is pure (Frama-C): tests/verify. One: make verify PROOF=grant
.PHONY: verify
verify:
	@tools/need build verify
	@tests/verify/run $(BUILD) $(PROOF)

check:
	@tools/need build run check
	@tests/check system
check-all:
	@tools/need build run check
	@tests/check system-all
