from __future__ import annotations

import subprocess
import sys

import pytest

from tortxd.policy.site import site_of

ONION = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion"


@pytest.mark.parametrize(
    ("host", "site"),
    [
        ("example.com", "example.com"),
        ("a.b.example.com", "example.com"),
        ("www.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("alice.github.io", "alice.github.io"),
        ("x.alice.github.io", "alice.github.io"),
        ("origin.test.example", "test.example"),
        ("www.xn--85x722f.xn--55qx5d.cn", "xn--85x722f.xn--55qx5d.cn"),
        ("93.184.216.34", "93.184.216.34"),
        ("2606:4700::1", "2606:4700::1"),
        (ONION, ONION),
        (f"a.b.{ONION}", ONION),
    ],
)
def test_sites(host: str, site: str) -> None:
    assert site_of(host) == site


def test_the_list_is_not_read_at_import() -> None:
    code = (
        "import sys, tortxd.policy.site as site\n"
        "site.site_of('93.184.216.34')\n"
        "assert 'publicsuffixlist' not in sys.modules\n"
        "site.site_of('example.com')\n"
        "assert 'publicsuffixlist' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
