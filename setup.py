"""Install the modules and the kc- commands; debian/rules is the only caller."""

import re
from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

entry = re.match(r"kisscluster \(([^)]+)\)", Path("debian/changelog").read_text(encoding="utf-8"))
assert entry, "debian/changelog does not begin with kisscluster (VERSION)"

setup(
    name="kisscluster",
    version=entry[1],
    package_dir={"": "lib"},
    packages=find_packages("lib"),
    scripts=sorted(glob("bin/kc-*")),
    install_requires=["configobj", "icmplib"],
    python_requires=">=3.11",
)
