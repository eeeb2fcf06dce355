"""Builds the decoding kernel along with the package. Everything else is in pyproject.toml."""

import runpy
from pathlib import Path

from setuptools import Extension, setup

KERNELS = Path("fasttail/kernels")
build = runpy.run_path(str(KERNELS / "build.py"))

setup(
    ext_modules=[
        Extension(
            f"fasttail.kernels.{build['NAME']}",
            sources=[str(KERNELS / name) for name in build["SOURCES"]],
            depends=[str(KERNELS / name) for name in build["HEADERS"]],
            include_dirs=[str(KERNELS)],
            define_macros=[build["define"]()],
            libraries=list(build["LIBRARIES"]),
            extra_compile_args=list(build["FLAGS"]),
            extra_link_args=["-pthread"],
            # Without a compiler or libjpeg-turbo's headers the installation goes on.
            optional=True,
        )
    ],
    # Headers and sources travel along, so that the kernel can be built after the installation.
    package_data={"fasttail.kernels": ["*.c", "*.h"]},
)
