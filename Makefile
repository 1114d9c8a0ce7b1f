# make          builds build/croft.elf and build/croft.gz
# make check    all tests (unit, guests, system); make unit, make guests, make system: one tier
# Included parts: tests/tests.mk, tools/tools.mk
# make V=1 shows the commands
Q := $(if $(V),,@)
BUILD := build
all:
CC ?= gcc
HV := hypervisor
LIBXEN ?= /usr/include

SOURCES := $(sort $(wildcard $(HV)/*/*.c $(HV)/*.c))
ASM := $(sort $(wildcard $(HV)/*/*.S))
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o) $(ASM:%.S=$(BUILD)/%.S.o)

CFLAGS := -std=gnu11 -O2 -g -ffreestanding -fno-common -fno-builtin-printf -Wall -Wextra -Werror -Wno-unused-parameter \
	-Wstrict-prototypes -Wmissing-prototypes -Wundef -fPIE -fvisibility=hidden -include $(HV)/lib/visibility.h \
	-mno-red-zone -mgeneral-regs-only -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables \
	-fno-strict-aliasing -fno-omit-frame-pointer -fno-delete-null-pointer-checks -fwrapv -fno-jump-tables \
	-mindirect-branch=thunk-extern -mindirect-branch-register \
	-ffunction-sections -fdata-sections -ffile-prefix-map=$(CURDIR)=. -I$(HV)

all: $(BUILD)/croft.elf $(BUILD)/croft.gz

# Once: are the libraries there? It names their packages if not.
$(BUILD)/needs-met:
	@mkdir -p $(@D)
	@tools/need build
	@touch $@
$(BUILD)/%.o: %.c | $(BUILD)/needs-met
	@mkdir -p $(@D)
	@echo "  CC $<"
	$(Q)$(CC) $(CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/%.S.o: %.S $(BUILD)/offsets.h
	@mkdir -p $(@D)
	@echo "  AS $<"
	$(Q)$(CC) $(CFLAGS) -D__ASSEMBLY__ -I$(BUILD) -MMD -MP -c $< -o $@
-include $(OBJECTS:.o=.d)

# The hottest C code: a register more. Call traces go on through it by scanning the stack.
$(BUILD)/$(HV)/pv/mmu.o $(BUILD)/$(HV)/sched/timer.o $(BUILD)/$(HV)/hypercall/vcpu_op.o \
	$(BUILD)/$(HV)/domain/grant_map.o $(BUILD)/$(HV)/domain/grant_table.o $(BUILD)/$(HV)/pv/mmu_grant.o \
	$(BUILD)/$(HV)/hypercall/grant_table.o: CFLAGS += -fomit-frame-pointer

# Offsets of structure members for the assembly files, from the compiler
$(BUILD)/offsets.h: $(HV)/offsets.c.in $(wildcard $(HV)/*/*.h)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) -x c -S $< -o $(BUILD)/offsets.s
	$(Q)sed -n 's/^.*->\([A-Za-z0-9_]*\) \$$*\(-*[0-9]*\).*$$/#define \1 \2/p' $(BUILD)/offsets.s > $@

# Debian's decompression libraries, for the domain 0 builder (boot/payload.c)
LIBRARIES := -l:liblzma.a -l:libzstd.a -l:liblz4.a -l:libz.a

LINK = $(CC) -nostdlib -static -no-pie -Wl,-T,$(BUILD)/croft.lds -Wl,--gc-sections -Wl,--build-id=none -Wl,-z,noexecstack \
	-Wl,-z,max-page-size=4096 -Wl,--no-warn-rwx-segments -Wl,--orphan-handling=place

# Linked twice: the first image gives the symbol table that call traces in the second use.
$(BUILD)/croft.lds: $(HV)/croft.lds.S $(HV)/memory/layout.h
	@mkdir -p $(@D)
	$(Q)$(CC) -E -P -x assembler-with-cpp -I$(HV) $< -o $@
$(BUILD)/symbols0.S: tools/gen-symbols
	@mkdir -p $(@D)
	tools/gen-symbols /dev/null > $@
$(BUILD)/croft.elf: $(OBJECTS) $(BUILD)/croft.lds tools/gen-symbols $(BUILD)/symbols0.S
	@echo "  LD $@"
	$(Q)$(CC) $(CFLAGS) -c $(BUILD)/symbols0.S -o $(BUILD)/symbols0.o
	$(Q)$(LINK) -o $(BUILD)/croft-pass1.elf $(OBJECTS) $(BUILD)/symbols0.o $(LIBRARIES) -lgcc
	$(Q)tools/gen-symbols $(BUILD)/croft-pass1.elf > $(BUILD)/symbols1.S
	$(Q)$(CC) $(CFLAGS) -c $(BUILD)/symbols1.S -o $(BUILD)/symbols1.o
	$(Q)$(LINK) -o $@ $(OBJECTS) $(BUILD)/symbols1.o $(LIBRARIES) -lgcc
$(BUILD)/croft.gz: $(BUILD)/croft.elf
	gzip -9nc $< > $@.tmp && mv $@.tmp $@

clean:
	rm -rf $(BUILD)
.PHONY: all clean

-include tools/tools.mk tests/tests.mk tests/guests/guests.mk bench/bench.mk
