"""What pyproject.toml cannot say: the hot modules are compiled where that is possible."""

import sys
from pathlib import Path

from setuptools import setup

sys.path.insert(0, str(Path(__file__).resolve().parent / "tools"))

from compiled_build import BuildExt, BuildPy, placeholder

setup(ext_modules=placeholder(), cmdclass={"build_ext": BuildExt, "build_py": BuildPy})
