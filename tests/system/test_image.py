"""What the built code must not have."""
import pathlib
import re
import subprocess

from machine import BUILD

# At the start of the machine, and of a CPU
AT_START = ("boot/head.S.o", "cpu/trampoline.S.o")


def test_indirect_branches_go_through_thunks():
    objects = sorted(pathlib.Path(BUILD, "hypervisor").rglob("*.o"))
    assert len(objects) > 50
    found, thunks = [], 0
    for path in objects:
        code = subprocess.run(["objdump", "-d", "-r", path], capture_output=True, text=True, check=True).stdout
        thunks += len(re.findall(r"__x86_indirect_thunk_\w+[-+]0x", code))
        if not str(path).endswith(AT_START):
            found += [f"{path}: {line}" for line in re.findall(r"\b(?:call|jmp)\w*\s+\*.*", code)]
    assert not found and thunks > 20
