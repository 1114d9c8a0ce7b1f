"""Fixtures of the system tests. Console logs are left in build/logs/system/NAME.log."""
import os
import re
import sys

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools"))
import machine as machine_module  # noqa: E402

# The modules in which all tests share one boot take longest: they are begun first.
GROUPS = ("test_domain0", "test_guests", "test_xl")


def pytest_configure(config):
    config.addinivalue_line("markers", "extra: only in make check-all")


def pytest_collection_modifyitems(items):
    """The long groups first, so that the other worker has something to do until the end."""
    items.sort(key=lambda item: not any(group in item.nodeid for group in GROUPS))


@pytest.fixture
def machine(request):
    """machine(cpus=4, ...) starts a machine named after the test; all are ended with it."""
    started = []

    def start(**settings):
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", request.node.name).strip("_")[:80]
        if started:
            name += f"_{len(started)}"
        started.append(machine_module.Machine(name, **settings).start())
        return started[-1]

    yield start
    for m in started:
        m.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    if report.when == "call":
        item.has_failed = report.failed


@pytest.fixture(autouse=True)
def no_guest_left(request):
    """A failed test leaves neither a guest nor an open console to the next one of its module."""
    yield
    if getattr(request.node, "has_failed", False) and "dom0" in request.fixturenames:
        request.getfixturevalue("dom0").recover()
