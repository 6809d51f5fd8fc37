"""Names the packages; everything else stands in pyproject.toml.

The plugin package has no ``__init__.py`` (twisted.plugins is shared by every Twisted plugin), so it
has to be named; without ``package_dir`` an editable install would lose it silently.
"""

from setuptools import setup

setup(
    packages=[
        "tortxd",
        "tortxd.client",
        "tortxd.gateway",
        "tortxd.policy",
        "tortxd.relay",
        "tortxd.testing",
        "tortxd.tor",
        "tortxd.wire",
        "tortxd.wire.http1",
        "twisted.plugins",
    ],
    package_dir={"": "."},
    package_data={"tortxd": ["py.typed"]},
)
