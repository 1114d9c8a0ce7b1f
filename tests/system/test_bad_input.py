"""What the user, the boot loader or the firmware may get wrong: one line says what is the matter and what to do, and then
Croft halts (noreboot), reboots, or goes on without it."""
import os
import struct
import subprocess

import pytest

from machine import BUILD

VMLINUZ = os.environ.get("KERNEL", os.path.join(BUILD, "vmlinuz"))
TINY = os.environ.get("TINY_INITRD", os.path.join(BUILD, "tiny-initrd.gz"))


def elf(*notes, machine=62):
    """An ELF file with one page of code at 2 MiB and these Xen notes (type, bytes)."""
    blob = b"".join(struct.pack("<III4s", 4, len(data), kind, b"Xen\0") + data + b"\0" * (-len(data) % 4)
                    for kind, data in notes)
    base = 0xffffffff80000000
    code_at, note_at = 0x1000, 0x2000
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, machine, 1, base + 0x200000, 64, 0, 0, 64, 56, 2,
                         64, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 7, code_at, base + 0x200000, 0x200000, 0x1000, 0x1000, 0x1000)
    note = struct.pack("<IIQQQQQQ", 4, 4, note_at, 0, 0, len(blob), len(blob), 4)
    return (header + load + note).ljust(code_at, b"\0").ljust(note_at, b"\xf4") + blob


VIRT_BASE = (3, struct.pack("<Q", 0xffffffff80000000))
XEN_VERSION = (5, b"xen-3.0\0")


def file(path, data):
    path.write_bytes(data)
    return str(path)


def small(start, croft_args="", **settings):
    """A machine without disk and network, whose domain 0 would power off as soon as it runs."""
    settings = {"cpus": 1, "memory": 512, "disk": "none", "net": "none", "initrd": TINY, "limit": 150, **settings}
    settings.setdefault("kernel_args", "croft.test=monotonic croft.test_args=1")
    return start(croft_args=f"noreboot {croft_args}".strip(), **settings)


def stops(m, message):
    m.expect(message, 60)
    m.expect("the machine is halted", 30)


def goes_on(m, message):
    """The warning, and domain 0 runs all the same."""
    m.expect(message, 60)
    m.expect(r"init: test monotonic passed", 120)


def test_no_module(machine):
    stops(small(machine, kernel=""), r"no domain 0 kernel: give one as the first module")


@pytest.mark.parametrize("data, message", [
    (b"This is a text, not a kernel.\n" * 1000, r"domain 0's kernel: not a kernel"),
    (b"", r"domain 0's kernel: not a kernel|no domain 0 kernel"),
    (elf(), r"no Xen note XEN_VERSION"),
    (elf(XEN_VERSION), r"no Xen note VIRT_BASE"),
    (elf(XEN_VERSION, VIRT_BASE), r"no Xen note ENTRY"),
    (elf(machine=40), r"not for 64-bit x86"),
    (elf()[:0x1800], r"the ELF file is truncated"),
], ids=["text", "empty", "no-notes", "no-virt-base", "no-entry", "other-machine", "cut"])
def test_module_is_no_pv_kernel(machine, tmp_path, data, message):
    stops(small(machine, kernel=file(tmp_path / "kernel", data)), message)


def test_truncated_kernel(machine, tmp_path):
    with open(VMLINUZ, "rb") as f:
        half = f.read()[:3_000_000]
    stops(small(machine, kernel=file(tmp_path / "kernel", half)), r"the bzImage is truncated")


def test_corrupt_kernel(machine, tmp_path):
    with open(VMLINUZ, "rb") as f:
        data = bytearray(f.read())
    data[4_000_000:4_000_100] = bytes(100)
    stops(small(machine, kernel=file(tmp_path / "kernel", bytes(data))), r"the \w+ payload is (corrupt|truncated)")


def test_corrupt_elf_in_gzip(machine, tmp_path):
    data = bytearray(subprocess.run(["gzip", "-c"], input=os.urandom(100_000), stdout=subprocess.PIPE, check=True).stdout)
    data[50_000] ^= 0xff
    stops(small(machine, kernel=file(tmp_path / "kernel", bytes(data))), r"the gzip payload is corrupt|not an ELF file")


def test_initrd_does_not_fit(machine, tmp_path):
    initrd = tmp_path / "initrd"
    with open(initrd, "wb") as f:
        f.truncate(120 << 20)
    stops(small(machine, "dom0_mem=128M", initrd=str(initrd)), r"the initrd of 120 MiB does not fit .* give at least dom0_mem=")


@pytest.mark.parametrize("option, message", [
    ("dom0_mem=64G", r"dom0_mem asks for 65536 MiB, but only \d+ MiB are free: give less"),
    ("dom0_mem=4M", r"domain 0's memory of 4 MiB is too small .* give at least dom0_mem="),
], ids=["large", "small"])
def test_dom0_mem_does_not_fit(machine, option, message):
    stops(small(machine, option), message)


def test_absurd_options_are_named(machine):
    """Each in a line, all in one boot, which goes on."""
    options = {
        "frobnicate=7": r"unknown option 'frobnicate'",
        "dom0_mem=lots": r"option 'dom0_mem=lots' is malformed",
        "maxcpus": r"option 'maxcpus' needs a value",
        "maxcpus=99999999999": r"option 'maxcpus=99999999999' is malformed",
        "com2=31337": r"option 'com2=31337' is malformed",
        "x" * 300: r"option of 300 characters",
    }
    m = small(machine, " ".join(options))
    for message in options.values():
        m.expect(message, 60)
    m.expect(r"init: test monotonic passed", 120)


def test_absurd_number_of_vcpus(machine):
    """It is cut, and the domain is built. (128 vcpus on one emulated CPU are no pleasure: not waited for.)"""
    m = small(machine, "dom0_max_vcpus=100000")
    m.expect(r"dom0_max_vcpus=100000: more than \d+ are not possible", 60)
    m.expect("Linux version", 60)


def test_no_acpi(machine):
    """The kernel needs the tables as well, so Croft's line is what counts."""
    m = small(machine, machine="pc,acpi=off")
    m.expect(r"ACPI: no RSDP found: one CPU, no I/O APIC; if the firmware has an ACPI setting, switch it on", 60)
    m.expect(r"Linux version|the machine is halted", 60)


def test_corrupt_acpi_table(machine, tmp_path):
    """An SRAT whose entry runs past its end."""
    table = file(tmp_path / "srat", bytes(12) + b"\x01\xff" + bytes(20))
    goes_on(small(machine, qemu_args=["-acpitable", f"sig=SRAT,data={table}"]), r"ACPI: SRAT: entry at offset \d+")


def madt(*apic_ids):
    """A Multiple APIC Description Table (ACPI 6.5, 5.2.12) for QEMU's PC, with these CPUs."""
    cpus = b"".join(struct.pack("<BBBBI", 0, 8, i, apic_id, 1) for i, apic_id in enumerate(apic_ids))
    ioapic = struct.pack("<BBBBII", 1, 12, 0, 0, 0xfec00000, 0)
    overrides = b"".join(struct.pack("<BBBBIH", 2, 10, 0, irq, gsi, flags)
                         for irq, gsi, flags in ((0, 2, 0), (5, 5, 13), (9, 9, 13), (10, 10, 13), (11, 11, 13)))
    body = struct.pack("<II", 0xfee00000, 1) + cpus + ioapic + overrides
    header = struct.pack("<4sIBB6s8sI4sI", b"APIC", 36 + len(body), 3, 0, b"CROFT ", b"TEST    ", 1, b"TEST", 1)
    table = bytearray(header + body)
    table[9] = -sum(table) & 0xff
    return bytes(table)


def test_cpu_that_does_not_start(machine, tmp_path):
    """GRUB gives a table that lists a CPU which is not there."""
    m = small(machine, boot="bios", acpi_table=file(tmp_path / "madt", madt(0, 99)))
    goes_on(m, r"CPU with APIC id 99 does not start")


def test_maxcpus(machine):
    m = small(machine, "maxcpus=2", cpus=4, kernel_args="quiet croft.test=monotonic croft.test_args=1")
    m.expect("monotonic: 2 CPUs", 120)


def test_reboots_without_noreboot(machine):
    m = machine(kernel="", cpus=1, memory=256, disk="none", net="none", limit=60)
    m.expect("no domain 0 kernel", 30)
    m.expect("rebooting", 20)
    m.expect_end(30)


def test_crash_of_domain_0(machine):
    """The kernel finds no root file system and panics: Croft says so and halts."""
    m = small(machine, initrd="", kernel_args="panic=1")
    m.expect("Kernel panic", 120)
    m.expect(r"domain 0 (crashed|asks for a reboot)", 60)
    m.expect("halted", 30)
