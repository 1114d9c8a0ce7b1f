"""Time as all CPUs see it. The program runs from the small initrd: no disk needed."""
import os

import pytest

from machine import BUILD


@pytest.mark.parametrize("cpus", [2, 4])
def test_time_never_goes_back_between_cpus(machine, cpus):
    m = machine(cpus=cpus, memory=512, accel="tcg", disk="none", net="none",
                initrd=os.environ.get("TINY_INITRD", os.path.join(BUILD, "tiny-initrd.gz")),
                kernel_args="quiet croft.test=monotonic croft.test_args=20")
    m.expect(f"monotonic: {cpus} CPUs", timeout=180)
    m.expect(r"init: test monotonic (\w+)")
    assert m.child.match.group(1) == "passed", m.console()[-2000:]
