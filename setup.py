"""Builds the decoding kernel along with the package. Everything else is in pyproject.toml.

The kernel is loaded by ctypes and knows nothing of Python: one wheel serves every Python 3.
"""

import atexit
import runpy
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

KERNELS = Path("fasttail/kernels")
kernel = runpy.run_path(str(KERNELS / "build.py"))


def left_out(why: str) -> None:
    """The last words of an installation without the kernel (pip shows them with -v)."""
    print(
        f"{why}\nfasttail is installed WITHOUT its decoding kernel, and reads photographs slowly: "
        f"{kernel['HOW_TO_BUILD']}",
        file=sys.stderr,
    )


class BuildKernel(build_ext):
    """Compiles as `python -m fasttail.kernels.build` does; where that fails the build goes on."""

    def get_ext_filename(self, fullname: str) -> str:
        return str(Path(*fullname.split("."))) + ".so"

    def build_extension(self, ext: Extension) -> None:
        try:
            kernel["build"](Path(self.get_ext_fullpath(ext.name)).parent)
        except (OSError, subprocess.CalledProcessError) as error:
            why = getattr(error, "stderr", None) or str(error)
            atexit.register(left_out, why)
            raise CompileError(why) from error


class Wheel(bdist_wheel):
    """py3-none-linux_x86_64, say."""

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2])


setup(
    cmdclass={"build_ext": BuildKernel, "bdist_wheel": Wheel},
    ext_modules=[
        Extension(
            f"fasttail.kernels.{kernel['NAME']}",
            sources=[str(KERNELS / name) for name in kernel["SOURCES"]],
            optional=True,
        )
    ],
)
