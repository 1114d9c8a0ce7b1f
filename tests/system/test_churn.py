"""Guests created and killed at random moments (during build, boot, I/O, shutdown): no page is lost."""
import base64
import os

import pytest

from machine import manager


@pytest.mark.extra
@pytest.mark.parametrize("kind", ["pv", "pvh"])
@pytest.mark.parametrize("cycles", [12, 300])
def test_churn(cycles, kind):
    with open(os.path.join(os.path.dirname(__file__), "churn.sh"), "rb") as f:
        script = base64.encodebytes(f.read()).decode()
    with manager(f"churn-{cycles}-{kind}", pvh=kind == "pvh", limit=300 + 60 * cycles) as m:
        m.login()
        m.run("base64 -d >/run/churn.sh <<EOF\n" + script + "EOF\n:")
        # What domain 0 keeps for good is taken by the first guests.
        m.run(f"bash /run/churn.sh 5 1 {kind}", 400)
        before = m.free_pages()
        m.run(f"bash /run/churn.sh {cycles} 2 {kind}", 200 + 50 * cycles)
        m.expect_free_pages(before)
        m.audit()
        m.check_logs()
        m.power_off()
