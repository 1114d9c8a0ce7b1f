"""croft-trace on files made here, whose contents are known. No machine is started; test_tools.py has real ones."""
import os
import struct
import subprocess

import pytest

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "croft-trace")
HZ = 2_000_000_000
MS = HZ // 1000
IDLE = 32767
RUNNING, RUNNABLE, BLOCKED = range(3)


def record(t, event, *words):
    return struct.pack(f"<IQ{len(words)}I", event | len(words) << 28 | 1 << 31, 10**15 + t, *words)


def window(cpu, *records):
    """What xentrace writes of one CPU at a time."""
    data = b"".join(records)
    return struct.pack("<3I", 0x1f003 | 2 << 28, cpu, len(data)) + data


def state(t, domain, old, new):
    return record(t, 0x21001 | old << 8 | new << 4, domain << 16)


def switch(t, old, new, ran):
    return record(t, 0x2800e, old, 0, ran) + record(t, 0x2800a, old, 0, new, 0)


def turn(t, length, domain, old):
    """On a CPU that was idle: woken, runs 1 ms later, and then does what the new state says."""
    return (record(t, 0x28004, domain, 0) + state(t, domain, BLOCKED, RUNNABLE) + switch(t + MS, IDLE, domain, 0)
            + state(t + MS, domain, RUNNABLE, RUNNING) + switch(t + MS + length, domain, IDLE, length * 1000000 // MS)
            + state(t + MS + length, domain, RUNNING, old))


def run(tmp_path, data, *options, status=0):
    path = tmp_path / "trace"
    path.write_bytes(data)
    result = subprocess.run([TOOL, str(path), *options], capture_output=True, text=True, check=False)
    assert result.returncode == status, result.stderr
    return result.stdout if status == 0 else result.stderr


# CPU 0: d1 from 1 to 31 ms and from 51 to 61 ms. CPU 1: d2 from 11 to 31 ms, then a hundred records are lost. 100 ms in all.
EXAMPLE = (window(1, record(0, 0x28004, IDLE, 1), turn(10 * MS, 20 * MS, 2, RUNNABLE))
           + window(0, turn(0, 30 * MS, 1, BLOCKED))
           + window(1, record(100 * MS, 0x1f001, 100, 0, *divmod(10**15 + 90 * MS, 1 << 32)[::-1]))
           + window(0, turn(50 * MS, 10 * MS, 1, BLOCKED), struct.pack("<2I", 0x1f002 | 1 << 28, 0)))


def test_shares_waits_and_losses(tmp_path):
    lines = [line.split() for line in run(tmp_path, EXAMPLE).splitlines()]
    assert " ".join(lines[0]) == "100.0 ms on 2 CPUs; the TSC runs at 2000.0 MHz"
    assert lines[1][:4] == ["CPU", "0:", "40.0", "%"] and lines[1][7:8] == ["0"]
    assert lines[2][:4] == ["CPU", "1:", "20.0", "%"] and lines[2][7:8] == ["100"]
    assert lines[4] == ["d1v0", "40.0", "2.0", "2", "1.000", "1.000"]
    assert lines[5] == ["d2v0", "20.0", "70.0", "1", "1.000", "1.000"]


def test_a_picture_of_a_window(tmp_path):
    out = tmp_path / "x.svg"
    run(tmp_path, EXAMPLE, "-o", str(out), "--from", "50", "--length", "20", "--name", "1=<web>")
    svg = out.read_text()
    assert svg.startswith("<svg ") and svg.endswith("</svg>\n")
    assert "&lt;web&gt; v0" in svg and "50 % · 5 %" in svg  # 10 of 20 ms; 1 ms
    assert "0 % · 100 %" in svg  # d2 waits
    assert svg.count("#d00000") == 0
    run(tmp_path, EXAMPLE, "-o", str(out))
    assert "#d00000" in out.read_text()


def test_a_picture_has_a_limit(tmp_path):
    out = tmp_path / "x.svg"
    many = window(0, *(turn(i * 10 * MS, 5 * MS, 1, BLOCKED) for i in range(500)))
    path = tmp_path / "trace"
    path.write_bytes(many)
    result = subprocess.run([TOOL, str(path), "-o", str(out), "--max-events", "100"], capture_output=True, text=True, check=True)
    assert "the picture ends after" in result.stderr and out.stat().st_size < 10000


@pytest.mark.parametrize("data, reason", [
    (b"", "no records"),
    (b"x" * 40, "offset 0: no header of xentrace's"),
    (EXAMPLE[:5], "offset 0: the file ends within a header"),
    (EXAMPLE[:100], "offset 12: "),
    (window(0, record(0, 1, 2)[:12]), "offset 12: a record of 16 bytes, but its window ends after 12"),
    (window(0, record(0, 0x28004, 1, 0)), "the clock's rate cannot be told"),
])
def test_what_is_no_trace_is_refused_in_a_line(tmp_path, data, reason):
    error = run(tmp_path, data, status=1)
    assert reason in error and error.count("\n") == 1
