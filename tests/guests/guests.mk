# Test guests: every folder here but kit/ is one; its sources and the kit give build/tests/guests/NAME.elf.
# Those named pvh_... are PVH kernels, with the kit in kit/pvh and what of kit/ is of use to both.
# make guests    builds and runs them all on $(GUESTS_HV), those that can also without privilege beside a victim
# make guests-cpus    the same with 1, 2 and 4 CPUs each
# make fuzz-guest SECONDS=3600 SEED=1    random guests for long; what they say is in build/logs/fuzz-guest/random.log; with
#                 FUZZ_GUEST=pvh_random PVH ones
GUESTS_DIR := tests/guests
GUESTS_OUT := build/$(GUESTS_DIR)
GUESTS_HV ?= build/croft.elf
GUESTS_CC ?= gcc
GUESTS := $(sort $(filter-out kit,$(notdir $(patsubst %/,%,$(dir $(wildcard $(GUESTS_DIR)/*/*.c))))))
GUESTS_CFLAGS := -std=gnu11 -O2 -g -ffreestanding -Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes \
	-fno-pie -mcmodel=kernel -mno-red-zone -mgeneral-regs-only -fno-stack-protector -fcf-protection=none \
	-fno-asynchronous-unwind-tables -fno-strict-aliasing -fwrapv -fno-delete-null-pointer-checks \
	-fno-tree-loop-distribute-patterns -ffile-prefix-map=$(CURDIR)=. -I$(GUESTS_DIR)/kit
GUESTS_KIT := $(patsubst %,$(GUESTS_OUT)/%.o,$(wildcard $(GUESTS_DIR)/kit/*.[cS]))
GUESTS_PVH_KIT := $(patsubst %,$(GUESTS_OUT)/%.o,$(wildcard $(GUESTS_DIR)/kit/pvh/*.[cS]) \
	$(addprefix $(GUESTS_DIR)/kit/,checks.c print.c time.c try.c try.S))
guests_kit = $(if $(filter pvh_%,$(1)),$(GUESTS_PVH_KIT),$(GUESTS_KIT))
guests_script = $(GUESTS_DIR)/kit/$(if $(filter pvh_%,$(1)),pvh/)guest.lds
guests_objects = $(patsubst %,$(GUESTS_OUT)/%.o,$(wildcard $(GUESTS_DIR)/$(1)/*.[cS]) \
	$(if $(filter %random,$(1)),$(wildcard $(GUESTS_DIR)/kit/random/*.c)))
GUESTS_ELFS := $(GUESTS:%=$(GUESTS_OUT)/%.elf)

# Objects are named after the whole source path, so nothing here meets the hypervisor's pattern rules.
$(GUESTS_OUT)/%.c.o: %.c
	@mkdir -p $(@D)
	$(GUESTS_CC) $(GUESTS_CFLAGS) -MMD -MP -c $< -o $@
$(GUESTS_OUT)/%.S.o: %.S
	@mkdir -p $(@D)
	$(GUESTS_CC) $(GUESTS_CFLAGS) -MMD -MP -c $< -o $@

define guests_link
$(GUESTS_OUT)/$(1).elf: $(call guests_objects,$(1)) $(call guests_kit,$(1)) $(call guests_script,$(1))
	$(GUESTS_CC) -static -nostdlib -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack \
		-Wl,--no-warn-rwx-segments -T $(call guests_script,$(1)) -o $$@ $$(filter %.o,$$^)
endef
$(foreach guest,$(GUESTS),$(eval $(call guests_link,$(guest))))

.PHONY: guests guests-cpus guests-build
guests-build: $(GUESTS_ELFS)
guests: guests-build $(GUESTS_HV)
	HV=$(GUESTS_HV) $(GUESTS_DIR)/run -j 2 --beside
guests-cpus: guests-build $(GUESTS_HV)
	HV=$(GUESTS_HV) $(GUESTS_DIR)/run --beside --cpus 1,2,4 --logs build/logs/guests-cpus

SECONDS ?= 3600
SEED ?= 1
FUZZ_GUEST ?= random
.PHONY: fuzz-guest
fuzz-guest: $(GUESTS_OUT)/random.elf $(GUESTS_OUT)/$(FUZZ_GUEST).elf $(GUESTS_HV)
	@echo "guests of the kind $(FUZZ_GUEST) for $(SECONDS) s, from seed $(SEED) on"
	@HV=$(GUESTS_HV) GUEST_ARGS="seconds=$(SECONDS) seed=$(SEED)" $(GUESTS_DIR)/run --no-icount --logs build/logs/fuzz-guest \
		-t $$(($(SECONDS) + 300)) $(FUZZ_GUEST); result=$$?; \
		grep -aE '^(   |ok |FAIL )' build/logs/fuzz-guest/$(FUZZ_GUEST).log; exit $$result

-include $(wildcard $(GUESTS_OUT)/$(GUESTS_DIR)/*/*.d $(GUESTS_OUT)/$(GUESTS_DIR)/*/*/*.d)
