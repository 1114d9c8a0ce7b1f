"""The places in which the benchmark suite measures Linux, and how each is started: an entry of ENVIRONMENTS, and no more.

In all of them it is Debian's stock kernel (User-mode Linux has its own), the same root in RAM, 1536 MiB and one processor of the
same emulated machine. CROFT=FILE and XEN=FILE put another image in the place of a hypervisor.
"""
import dataclasses
import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, "build")
OUT = os.path.join(BUILD, "bench")
HYPERVISORS = {"croft": os.environ.get("CROFT", os.path.join(BUILD, "croft.elf")),
               "xen": os.environ.get("XEN", os.path.join(OUT, "xen.elf"))}
KERNEL = os.environ.get("KERNEL", os.path.join(BUILD, "vmlinuz"))
MACHINE_MIB = 4096
LINUX_MIB = 1536  # what is measured
PAIR_MIB = 512    # a guest that shares devices with domain 0
HOST_MIB = 1280   # a domain 0 that has the measured root as a file, and has it beside that for a moment

CLOCKS = {
    # Guest time is a count of instructions, 2 ns each; waits take no time. The same date and random numbers each time.
    "icount": ("-icount", "shift=1,sleep=off", "-rtc", "base=2026-01-01,clock=vm", "-seed", "1"),
    "real": (),
}


@dataclasses.dataclass(frozen=True)
class Environment:
    name: str
    title: str
    colour: str            # in pictures
    hypervisor: str = ""  # on which domain 0 runs; none: the bare machine
    host: str = ""        # what bench/suite/host-init starts in domain 0, or on the bare machine: pv, pvh, pair, uml, kvm
    config: str = ""      # lines for xl's configuration, parted by ;
    divisor: int = 1      # of the micro rows' numbers of operations
    slow: bool = False    # macro rows would take too long
    pair: bool = False    # has rows of its own, of what a guest shares with domain 0
    apart: bool = False   # measured by make bench-pvh, and by make bench only if it is asked for
    memory: int = LINUX_MIB

    def missing(self, root=None):
        """Names of files that it needs and that are not there."""
        files = [KERNEL, root or self.archive(), *([HYPERVISORS[self.hypervisor]] if self.hypervisor else [])]
        return [os.path.relpath(f, ROOT) for f in files if not os.path.exists(f)]

    def archive(self):
        """What is unpacked into RAM as the root of the first system"""
        return os.path.join(OUT, "pair.cpio" if self.pair else "host.cpio" if self.host else "bench.cpio")

    def small(self):
        """The same with busybox, bench/suite/micro and bench/work alone: booted soon, for micro rows and those of bench/pvh"""
        return os.path.join(OUT, "pvh.cpio" if self.host else "small.cpio")

    def command(self, clock, words, root=None):
        """QEMU's arguments that say what is started; words: for the kernel's command line, of the measured Linux in the end.
        root: another archive than the usual one."""
        words = [*words, f"bench.divisor={self.divisor}"]
        initrd = root or self.archive()
        if self.host:
            words += [f"bench.host={self.host}", f"bench.memory={self.memory}"]
        if self.config:
            words.append(f"bench.config={self.config}")
        machine = ["-m", str(MACHINE_MIB), *CLOCKS[clock]]
        if not self.hypervisor:
            limit = [] if self.host else [f"mem={self.memory}M"]
            return [*machine, "-kernel", KERNEL, "-initrd", initrd, "-append", " ".join(["console=ttyS0 quiet", *limit, *words])]
        memory = HOST_MIB if self.host else LINUX_MIB
        # In -initrd a comma ends a module and two of them are one.
        kernel = " ".join([KERNEL, "console=hvc0 quiet", *words]).replace(",", ",,")
        return [*machine, "-kernel", HYPERVISORS[self.hypervisor], "-initrd", f"{kernel},{initrd}", "-append",
                f"console=com1 com1=115200,8n1 noreboot dom0_mem={memory}M,max:{memory}M"]


ENVIRONMENTS = {e.name: e for e in (
    Environment("bare", "Linux", "#404040"),
    Environment("croft-dom0", "Croft, domain 0", "#1f6fb4", "croft"),
    Environment("xen-dom0", "Xen, domain 0", "#c44e3b", "xen"),
    Environment("croft-pv", "Croft, PV guest", "#74b3e3", "croft", "pv"),
    Environment("xen-pv", "Xen, PV guest", "#e8a08f", "xen", "pv"),
    Environment("xen-pv-native", "Xen, PV guest, TSC native", "#f2cfc6", "xen", "pv", 'tsc_mode="native"'),
    Environment("uml", "User-mode Linux", "#9a9a9a", "", "uml", divisor=20, slow=True),
    Environment("croft-pair", "Croft, a guest and domain 0", "#1f6fb4", "croft", "pair", pair=True, memory=PAIR_MIB),
    Environment("xen-pair", "Xen, a guest and domain 0", "#c44e3b", "xen", "pair", pair=True, memory=PAIR_MIB),
    Environment("croft-pvh", "Croft, PVH guest", "#0b3c66", "croft", "pvh", apart=True),
    Environment("xen-pvh", "Xen, PVH guest, TSC native", "#8c2f20", "xen", "pvh", 'tsc_mode="native"', apart=True),
    Environment("kvm", "KVM", "#3f8f4f", "", "kvm", apart=True),
)}
