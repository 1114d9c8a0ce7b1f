# make bench: the figures of docs/speed.md, measured; CROFT=... measures another hypervisor
.PHONY: bench bench-guests bench-queries
$(BUILD)/bench/%.so: bench/%.c
	@mkdir -p $(@D)
	$(CC) -O2 -Wall -Wextra -Wno-unused-parameter -Werror -shared -fPIC $< -o $@
$(BUILD)/bench/work-initrd.gz: $(ROOTDISK) tools/mk-initrd tools/initrd/init bench/work
	@mkdir -p $(@D)
	tools/mk-initrd $(BUILD) $@ bench/work
bench: $(BUILD)/croft.elf guests-build $(BUILD)/bench/count.so $(BUILD)/bench/work-initrd.gz
	@tools/need run
	@bench/bench
# What xl's guests cost
bench-guests: $(BUILD)/croft.elf $(ROOTDISK) $(INITRD) $(BUILD)/bench/profile.so
	@tools/need run
	@bench/guests
# How long xl's questions take
bench-queries: $(BUILD)/croft.elf $(ROOTDISK) $(INITRD)
	@tools/need run
	@bench/queries
