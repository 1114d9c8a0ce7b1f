"""Time as all CPUs see it. The program runs from the small initrd: no disk needed."""
import os

import pytest

from machine import BUILD


def run_monotonic(machine, cpus, arguments, timeout):
    m = machine(cpus=cpus, memory=512, accel="tcg", disk="none", net="none",
                initrd=os.environ.get("TINY_INITRD", os.path.join(BUILD, "tiny-initrd.gz")),
                kernel_args=f"quiet croft.test=monotonic croft.test_args={arguments}")
    m.expect(f"monotonic: {cpus} CPUs", timeout=timeout)
    m.expect(r"init: test monotonic (\w+)\s")
    assert m.child.match.group(1) == "passed", m.console()[-2000:]


@pytest.mark.parametrize("cpus", [pytest.param(2, marks=pytest.mark.extra), 4])
def test_time_never_goes_back_between_cpus(machine, cpus):
    run_monotonic(machine, cpus, "20", 180)


@pytest.mark.extra
def test_clocks_of_8_cpus_compared_for_a_minute_under_load(machine):
    run_monotonic(machine, 8, "60,load", 380)
