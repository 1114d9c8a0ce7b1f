"""The stock kernel reaches multi-user on every kind of machine, loader, number of CPUs and size of memory."""
import itertools

import pytest

MACHINES = ("pc", "q35")
BOOTS = ("kernel", "bios", "uefi")
CPUS = (1, 2, 4, 8)
MEMORY = (1, 4, 16)  # GiB


def pairwise():
    """Twelve of the combinations, in which each two values of two columns meet."""
    return {(MACHINES[(i + j) % 2], BOOTS[(i + j) % 3], cpus, memory)
            for (i, cpus), (j, memory) in itertools.product(enumerate(CPUS), enumerate(MEMORY))}


# Of those, for make check: each machine and loader, each number of CPUs and each size of memory. Most other tests are q35 by kernel.
IN_CHECK = {("pc", "kernel", 1, 1), ("pc", "uefi", 2, 4), ("pc", "bios", 4, 16), ("q35", "uefi", 8, 16)}


def matrix():
    for values in itertools.product(MACHINES, BOOTS, CPUS, MEMORY):
        marks = () if values in IN_CHECK else pytest.mark.extra
        yield pytest.param(*values, marks=marks, id="{}-{}-{}cpu-{}G".format(*values))


def test_pairwise_is_complete():
    columns = (MACHINES, BOOTS, CPUS, MEMORY)
    for a, b in itertools.combinations(range(4), 2):
        assert {(v[a], v[b]) for v in pairwise()} == set(itertools.product(columns[a], columns[b]))
    assert IN_CHECK <= pairwise()
    assert {v[0] for v in IN_CHECK} == set(MACHINES) and {v[1] for v in IN_CHECK} == set(BOOTS)
    assert {v[2] for v in IN_CHECK} == set(CPUS) and {v[3] for v in IN_CHECK} == set(MEMORY)


@pytest.mark.parametrize("kind, boot, cpus, memory", matrix())
def test_boot(machine, kind, boot, cpus, memory):
    # Small machines give all that Croft leaves to domain 0; the large one keeps free memory.
    dom0_mem = "dom0_mem=6G" if memory == 16 else ""
    m = machine(machine=kind, boot=boot, cpus=cpus, memory=memory * 1024, croft_args=dom0_mem)
    m.login()
    assert m.run("systemctl is-system-running --wait", timeout=200, check=False) == "running"
    assert m.run("systemctl is-active multi-user.target") == "active"
    assert m.run("nproc") == str(cpus)
    assert m.run("cat /sys/hypervisor/type /sys/hypervisor/guest_type").split() == ["xen", "PV"]
    m.check_logs()
    m.power_off()
