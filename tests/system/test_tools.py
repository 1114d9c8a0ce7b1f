"""Debian's tools with the store that is written in C, in short. test_xl.py has all commands, with oxenstored."""
import json
import re

import pytest

from machine import guest_modules, manager

pytestmark = pytest.mark.xdist_group("tools")
UP = "tiny: up after"


@pytest.fixture(scope="module")
def dom0():
    with manager("tools", "xenstored", modules=guest_modules("domain=alone memory=160M -- console=hvc0 quiet")) as m:
        m.login()
        yield m


def test_a_domain_without_tools(dom0):
    """Croft started it by itself (test_without_tools.py): tools know it by its number."""
    if "(alone) tiny: up after" not in dom0.console():
        dom0.expect(r"\(alone\) tiny: up after", 200)
    assert re.search(r"^\S+ +1 +160 +1 +[-rb]", dom0.run("xl list"), re.M)
    dom0.run("xl pause 1; xl unpause 1; xl vcpu-pin 1 all 0 all")
    # It reboots: Croft starts it anew, under the next number, as it was.
    free = dom0.free_pages()
    dom0.keyboard_to("domain alone")
    dom0.send("reboot -f\n")
    dom0.expect(r"d2, domain alone, starts", 120)
    dom0.expect(r"\(alone\) tiny: up after", 200)
    dom0.keyboard_to("domain 0")
    dom0.run("true")
    assert re.search(r"^\S+ +2 +160 +1 +[-rb]", dom0.run("xl list"), re.M)
    assert not re.search(r"^\S+ +1 ", dom0.run("xl list"), re.M)
    dom0.expect_free_pages(free)
    dom0.keyboard_to("Croft")
    dom0.send("a")
    dom0.expect(r"audit: 0 findings", 120)
    dom0.keyboard_to("domain 0")
    # What the tools destroy stays so, and what was kept to start it anew is free as well.
    before = int(dom0.run("xl info free_memory"))
    dom0.run("xl destroy 2")
    dom0.wait_until("! xl list 2", 60)
    dom0.wait_until("xl dmesg | grep 'domain alone is gone'", 60)
    assert int(dom0.run("xl info free_memory")) >= before + 160 + 20
    assert "d3, domain alone" not in dom0.console()


def test_questions(dom0):
    info = dict(re.findall(r"^(\w+) *: (.*)$", dom0.run("xl info"), re.M))
    assert info["nr_cpus"] == "2"
    assert "xen-3.0-x86_64" in info["xen_caps"]
    assert re.fullmatch(r"Domain-0 +0 +1024 +2 +r----- +\d+\.\d", dom0.run("xl list").splitlines()[1])
    assert [d["domid"] for d in json.loads(dom0.run("xl list -l"))] == [0]
    assert "all / all" in dom0.run("xl vcpu-list 0")
    assert "com1=115200" in info["xen_commandline"]
    dom0.run("xl debug-keys h")
    assert "(CROFT) key 'h'" in dom0.run("xl dmesg")


def test_life_of_a_guest(dom0):
    dom0.create("tiny", "-p")
    assert re.search(r"tiny +\d+ +128 +1 +--p--- +0\.0", dom0.run("xl list"))
    dom0.run("xl unpause tiny")
    dom0.guest_says("tiny", UP)
    dom0.run("xl save tiny /root/tiny.save", 120)
    dom0.run("! xl domid tiny 2>/dev/null")
    dom0.run("xl restore /root/tiny.save", 120)
    assert re.search(r"tiny +\d+ +128 +1 ", dom0.run("xl list"))
    dom0.run("xl destroy tiny")
    dom0.destroyed("tiny")


def test_second_guest_leaves_nothing(dom0):
    before = dom0.free_pages()
    dom0.create("tiny")
    dom0.guest_says("tiny", UP)
    dom0.run("xl destroy tiny")
    dom0.destroyed("tiny")
    dom0.wait_until(f"xl info | grep -q 'free_memory  *: {before // 256}$'", 30)
    dom0.audit()


def trace(dom0, seconds, options=""):
    """Lets xentrace run beside a loop in domain 0; returns what croft-trace makes of its file."""
    dom0.run(f"timeout {seconds} sh -c 'while :; do :; done' & xentrace -D {options} -T {seconds} /root/trace 2>/dev/null; wait",
             60)
    text = dom0.run("croft-trace /root/trace -o /root/trace.svg && tail -n 1 /root/trace.svg")
    assert text.endswith("</svg>")
    return text


def test_trace(dom0):
    """Debian's xentrace reads Croft's trace buffers; what is in its file is what happened, for Xen's own tool as for Croft's."""
    dom0.create("tiny")
    dom0.guest_says("tiny", UP)
    domid = dom0.run("xl domid tiny")
    text = trace(dom0, 3, "-S 256")
    vcpus = {line.split()[0]: line.split()[1:] for line in text.splitlines() if re.match(r"d\d+v\d+ ", line)}
    assert 60 < float(vcpus["d0v0"][0]) + float(vcpus["d0v1"][0]) < 200, text  # the loop: 100 are a CPU
    assert int(vcpus[f"d{domid}v0"][2]) > 0, text  # the guest's timer woke it
    assert re.search(r"^d0: .*\d page faults, \d+ hypercalls", text, re.M), text
    assert f"|-- Domain {domid} --|" in dom0.run("xenalyze -s /root/trace 2>&1")

    text = trace(dom0, 1, "-e 0x29000 -c 0x1")  # the scheduler only, on the first CPU only
    assert "d0: " not in text and "CPU 0: " in text and "CPU 1: " not in text, text
    dom0.run("xl destroy tiny")
    dom0.destroyed("tiny")
    dom0.audit()


def test_logs_and_power_off(dom0):
    dom0.check_logs()
    dom0.power_off()
