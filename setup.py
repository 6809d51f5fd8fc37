"""Names the packages; everything else stands in pyproject.toml.

The plugin package has no ``__init__.py`` (twisted.plugins is shared by every Twisted plugin), so it
has to be named; without ``package_dir`` an editable install would lose it silently.
"""

from glob import glob

from setuptools import setup

setup(
    packages=[
        "tortxd",
        "tortxd.cli",
        "tortxd.client",
        "tortxd.gateway",
        "tortxd.gateway.admission",
        "tortxd.gateway.control",
        "tortxd.gateway.control.dashboard",
        "tortxd.gateway.front",
        "tortxd.policy",
        "tortxd.relay",
        "tortxd.testing",
        "tortxd.tor",
        "tortxd.wire",
        "tortxd.wire.http1",
        "twisted.plugins",
    ],
    package_dir={"": "."},
    package_data={
        "tortxd": ["py.typed"],
        "tortxd.gateway.control.dashboard": ["*.html", "*.css", "*.js"],
    },
    # The manual; where it is not beside (in a container image) it is not installed.
    data_files=[
        ("share/doc/tortxd", glob("docs/*.md")),
        ("share/doc/tortxd/examples", glob("docs/examples/*.*")),
        ("share/doc/tortxd/images", glob("docs/images/*.*")),
    ],
)
