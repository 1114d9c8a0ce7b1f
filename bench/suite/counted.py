"""The hypervisor's own instructions between two times that bench/suite/micro takes, counted by bench/profile.c (a QEMU plugin). The
function that takes them is at an address of its own (bench/bench.mk). Of Xen, whose symbols are not here, only the sum is told,
without what its stubs, a page for each CPU, execute."""
import bisect
import os
import subprocess

import environments

MICRO = os.path.join(environments.OUT, "micro")
PROFILE = os.path.join(environments.OUT, "inside.prof")
XEN_TEXT = (0xffff82d040200000, 0xffff82d040500000)


def symbols(elf):
    lines = subprocess.run(["nm", "-n", elf], check=True, capture_output=True, text=True).stdout.splitlines()
    return [(int(a, 16), name) for a, kind, name in (line.split() for line in lines if line[0] != " ") if kind in "tT"]


def table(environment):
    """Functions of the environment's hypervisor by address; of Xen none"""
    return symbols(environments.HYPERVISORS["croft"]) if environment.hypervisor == "croft" else []


def plugin(environment):
    """QEMU's arguments"""
    mark, = (a for a, name in symbols(MICRO) if name == "now")
    bounds = {name: a for a, name in table(environment)}
    low, high = (bounds["__text_start"], bounds["__text_end"]) if bounds else XEN_TEXT
    return ("-plugin", f"{environments.OUT}/profile.so,low={low:#x},high={high:#x},mark={mark:#x},out={PROFILE}")


def phases():
    """Of each stretch between two marks: instructions in all, and by address of blocks."""
    found = []
    with open(PROFILE, encoding="ascii") as f:
        for line in f:
            key, n = line.split()
            if key == "mark":
                found.append((int(n), {}))
            else:
                found[-1][1][int(key, 16)] = int(n)
    return found


def by_function(counts, functions):
    """[(name, instructions)] of the blocks' counts, most first"""
    starts, sums = [a for a, _ in functions], {}
    for address, n in counts.items():
        name = functions[bisect.bisect_right(starts, address) - 1][1]
        sums[name] = sums.get(name, 0) + n
    return sorted(sums.items(), key=lambda item: -item[1])
