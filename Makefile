# make          builds build/croft.elf and build/croft.gz
# make check    all tests (unit, guests, system); make unit, make guests, make system: one tier
# Included parts: tests/tests.mk, tools/tools.mk
BUILD := build
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
	-ffunction-sections -fdata-sections -ffile-prefix-map=$(CURDIR)=. -I$(HV)
