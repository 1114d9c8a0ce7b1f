# What runs Croft (the root disk, GRUB images, make run and demo) and what looks after the source.

ROOTDISK := $(BUILD)/debian.img
INITRD := $(BUILD)/initrd.img
TINY_INITRD := $(BUILD)/tiny-initrd.gz
GUEST_INITRD := $(BUILD)/guest-initrd.img
ISO := $(BUILD)/croft.iso
SELF_TESTS := $(patsubst tests/system/programs/%.c,$(BUILD)/programs/%,$(wildcard tests/system/programs/*.c))

$(BUILD)/rootdisk.tar: tools/mk-rootdisk tools/rootdisk-setup
	@tools/need run
	tools/mk-rootdisk fetch $(BUILD)
$(ROOTDISK): $(BUILD)/rootdisk.tar tools/rootdisk-images tools/mk-initrd tools/initrd/init tools/croft-backend tools/croft-sched tools/croft-trace $(wildcard tools/guests/*)
	tools/mk-rootdisk images $(BUILD)
$(BUILD)/vmlinuz $(BUILD)/guest.img: $(ROOTDISK) ;
$(INITRD): $(ROOTDISK) tools/mk-initrd tools/initrd/init
	tools/mk-initrd $(BUILD) $@
$(TINY_INITRD): $(ROOTDISK) tools/mk-initrd tools/initrd/init $(SELF_TESTS)
	tools/mk-initrd $(BUILD) $@ $(SELF_TESTS)
# Of the tiny guest, for one that Croft itself starts
$(GUEST_INITRD): $(ROOTDISK) tools/mk-initrd tools/guests/tiny-init
	tools/mk-initrd -i tools/guests/tiny-init -m 'xen-blkfront xen-netfront' $(BUILD) $@
$(SELF_TESTS): $(BUILD)/programs/%: tests/system/programs/%.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 -Wall -Wextra -Werror -static -pthread $< -o $@
$(ISO): $(BUILD)/croft.gz $(ROOTDISK) $(INITRD) tools/mk-iso
	@tools/need check
	tools/mk-iso $@

.PHONY: rootdisk iso run demo qemu-gdb lines format format-check lint
rootdisk: $(ROOTDISK) $(INITRD) $(TINY_INITRD) $(GUEST_INITRD)
iso: $(ISO)

run: $(BUILD)/croft.elf $(ROOTDISK) $(INITRD)
	@tools/need run
	@echo "Starting QEMU. Log in as root (no password). poweroff ends it; so does Ctrl-] x."
	@echo "Guests: xl create /etc/xen/tiny.cfg; xl create /etc/xen/debian.cfg; xl list; xl console tiny (Ctrl-] twice leaves it)."
	@CROFT_ARGS="$${CROFT_ARGS-console=com1 com1=115200,8n1 dom0_mem=1G,max:1G}" tools/qemu
demo: $(BUILD)/croft.elf $(ROOTDISK) $(INITRD)
	@tools/need run
	@tools/demo

# Stops before the first instruction; then: gdb build/croft.elf -ex 'target remote :1234' (docs/debugging.md)
qemu-gdb: $(BUILD)/croft.elf $(ROOTDISK) $(INITRD)
	@echo "Waiting for: gdb $(BUILD)/croft.elf -ex 'target remote :1234'"
	@tools/qemu -S -gdb tcp:127.0.0.1:1234

HV_FILES := $(wildcard $(HV)/*.[chS] $(HV)/*/*.[chS])
C_FILES := $(filter-out %.S,$(HV_FILES)) $(wildcard tests/*/*.[ch] tests/*/*/*.[ch] tests/*/*/*/*.[ch] bench/*.c bench/sched/*.[ch] bench/suite/micro/*.[ch])

# Source lines of the hypervisor (without tests), a line a folder
lines:
	@for d in $(sort $(patsubst %/,%,$(dir $(HV_FILES)))); do \
		printf '%7d %s\n' "$$(cat $$d/*.[chS] 2>/dev/null | wc -l)" "$$d"; done
	@printf '%7d total\n' "$$(cat $(HV_FILES) | wc -l)"

format:
	@tools/need dev
	clang-format -i $(C_FILES)

# Formatting, the rules of the source tree, and what cppcheck and the shell find
lint:
	@tools/need dev
	tools/check-rules
	clang-format --dry-run -Werror $(C_FILES)
	cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,portability --inline-suppr \
		--suppressions-list=tools/cppcheck.suppress -I$(HV) -I$(LIBXEN) -j2 $(filter %.c,$(HV_FILES))
