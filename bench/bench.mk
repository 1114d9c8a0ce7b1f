# make bench-speed: the figures of docs/speed.md, measured; CROFT=... measures another hypervisor
.PHONY: bench-speed bench-guests bench-queries bench-density
$(BUILD)/bench/%.so: bench/%.c
	@mkdir -p $(@D)
	$(CC) -O2 -Wall -Wextra -Wno-unused-parameter -Werror -shared -fPIC $< -o $@
$(BUILD)/bench/work-initrd.gz: $(ROOTDISK) tools/mk-initrd tools/initrd/init bench/work
	@mkdir -p $(@D)
	tools/mk-initrd $(BUILD) $@ bench/work
SPEED_NEEDS := $(BUILD)/croft.elf guests-build $(BUILD)/bench/count.so $(BUILD)/bench/work-initrd.gz
bench-speed: $(SPEED_NEEDS)
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
# The scheduler's measurements (docs/benchmarks.md): XEN=FILE measures Xen beside
SCHED_BENCH := $(BUILD)/bench/sched.elf
SCHED_OBJECTS := $(patsubst %,$(GUESTS_OUT)/%.o,$(wildcard bench/sched/*.c))
SCHED_SCRIPTS := $(sort $(wildcard bench/sched-*))
-include $(SCHED_OBJECTS:.o=.d)
$(SCHED_BENCH): $(SCHED_OBJECTS) $(GUESTS_KIT) $(GUESTS_DIR)/kit/guest.lds
	@mkdir -p $(@D)
	$(GUESTS_CC) -static -nostdlib -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack \
		-Wl,--no-warn-rwx-segments -T $(GUESTS_DIR)/kit/guest.lds -o $@ $(filter %.o,$^)
.PHONY: bench-sched bench-sched-smoke
bench-sched: $(BUILD)/croft.elf $(SCHED_BENCH) $(BUILD)/bench/profile.so
	@tools/need run
	@failed=0; for script in $(SCHED_SCRIPTS); do $$script || failed=1; done; exit $$failed
# A short row, to see that the harness works: part of make check
bench-sched-smoke: $(BUILD)/croft.elf $(SCHED_BENCH)
	@tools/need run
	@bench/sched-shares 5 && echo "1 passed"
# A hundred guests with Debian's kernel at once: 12 GiB, half an hour
bench-density: $(BUILD)/croft.elf $(ROOTDISK) $(INITRD)
	@tools/need run
	@bench/density

# Micro benchmarks in the style of lmbench; the function that takes the time is at an address that no other program has
MICRO := $(BUILD)/bench/micro
$(MICRO): $(wildcard bench/suite/micro/*.[ch]) bench/bench.mk
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 -Wall -Wextra -Wno-unused-parameter -Werror -static -Wl,--section-start=.mark=0x5ca10000 $(filter %.c,$^) -o $@

# make bench-quick (minutes), bench (all, within an hour): Linux on Croft beside the bare machine, Xen and User-mode Linux, as tables
# and as pictures; bench/results has the figures. SUITE gives options (bench/suite/suite -h). CROFT=FILE, XEN=FILE: other hypervisors.
# make bench-twice: do figures in instructions repeat?
SUITE ?=
SUITE_RUN = bench/suite/suite -o bench/results/full.json $(SUITE) || failed=1; \
	bench/suite/report --draw bench/results/full.json && exit $$failed
$(BUILD)/bench/root.tar: bench/suite/mk-root bench/suite/root-setup
	@tools/need run
	bench/suite/mk-root fetch $(BUILD)
$(BUILD)/bench/measured.cpio: $(BUILD)/bench/root.tar bench/suite/root-archives
	bench/suite/mk-root base $(BUILD)
$(BUILD)/bench/bench.cpio: $(BUILD)/bench/measured.cpio bench/suite/init bench/suite/host-init bench/suite/pair-init bench/suite/hotplug \
		bench/suite/macro $(MICRO) $(ROOTDISK) $(BUILD)/bench/small.cpio $(GUESTS_OUT)/pvh_rate.elf
	bench/suite/mk-root assemble $(BUILD)
.PHONY: bench bench-root bench-inside bench-quick bench-suite bench-twice bench-report
bench-root: $(BUILD)/bench/bench.cpio
# How many instructions of the hypervisor's own an operation takes, and where: bench/suite/inside -h
bench-inside: $(BUILD)/croft.elf $(BUILD)/bench/bench.cpio $(BUILD)/bench/profile.so
	@tools/need run
	@bench/suite/inside
bench-quick: $(BUILD)/croft.elf $(BUILD)/bench/bench.cpio
	@tools/need run bench
	@failed=0; bench/suite/suite --quick -o bench/results/quick.json $(SUITE) || failed=1; \
	bench/suite/report --draw bench/results/quick.json && exit $$failed
bench-suite: $(BUILD)/croft.elf $(BUILD)/bench/bench.cpio
	@tools/need run bench
	@failed=0; $(SUITE_RUN)
bench-twice: $(BUILD)/croft.elf $(BUILD)/bench/bench.cpio
	@tools/need run
	@bench/suite/suite --quick -c icount --twice -b 30 $(SUITE)
bench: $(SPEED_NEEDS) $(BUILD)/bench/bench.cpio $(BUILD)/bench/profile.so
	@tools/need run bench
	@failed=0; bench/bench -o bench/results/speed.json || failed=1; \
	bench/suite/inside -e croft-dom0,xen-dom0 -o bench/results/inside.json || failed=1; \
	$(SUITE_RUN)
# PVH guests beside Xen's and KVM's: the figures of docs/pvh.md
PVH_ROWS := -e bare,croft-pvh,xen-pvh,kvm -c icount --small
.PHONY: bench-pvh
bench-pvh: $(BUILD)/croft.elf $(BUILD)/bench/bench.cpio $(BUILD)/bench/profile.so
	@tools/need run
	@failed=0; bench/pvh -o bench/results/pvh.json || failed=1; \
	bench/suite/suite $(PVH_ROWS) $(SUITE) -o bench/results/pvh-suite.json || failed=1; exit $$failed
# Puts the figures of bench/results into the documents, with pictures
bench-report:
	@tools/need bench
	bench/suite/report

# A root of busybox, micro and the small work load alone: for the smoke test, and for bench/pvh
$(BUILD)/bench/small.cpio: bench/suite/init bench/suite/macro bench/work $(MICRO)
	@rm -rf $(BUILD)/bench/small
	@mkdir -p $(BUILD)/bench/small/bin $(addprefix $(BUILD)/bench/small/,dev proc sys run)
	@cp /bin/busybox $(BUILD)/bench/small/bin/ && ln -s busybox $(BUILD)/bench/small/bin/sh
	@cp $< $(BUILD)/bench/small/init
	@mkdir $(BUILD)/bench/small/bench && cp $(MICRO) bench/suite/macro bench/work $(BUILD)/bench/small/bench/
	(cd $(BUILD)/bench/small && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) >$@
