"""The inner loops in C++: compiled for this very processor when first needed, kept in the user's cache.

The compiler is the only tool that takes part; what it made is loaded with ctypes. Without a compiler, or on a processor
without the instructions, `load_kernels` gives None and says why: the modules of transformers then stay as they are.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from ctypes import POINTER, c_float, c_int, c_int64, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from tiebreak.errors import TiebreakError
from tiebreak.storage import replacing

SOURCES: Final = Path(__file__).with_name("kernels")
FLAGS: Final = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-fvisibility=hidden", "-shared", "-fopenmp")
SWITCH: Final = "TIEBREAK_KERNELS"
"""Environment variable; `off` keeps the kernels out."""


class MatrixLayout(ctypes.Structure):
    """`Matrix` of product.h."""

    _fields_ = (
        ("panels", c_void_p), ("scale", c_void_p), ("shift", c_void_p), ("bias", c_void_p),
        ("columns", c_int64), ("words", c_int64),
    )  # fmt: skip


class HeadsLayout(ctypes.Structure):
    """`Heads` of attention.h."""

    _fields_ = (
        ("heads", c_int64), ("groups", c_int64), ("size", c_int64), ("scale", c_float), ("softcap", c_float),
        ("window", c_int64), ("query_norm", c_void_p), ("key_norm", c_void_p), ("eps", c_float),
    )  # fmt: skip


_ARGUMENTS: Final = {
    "pack": (c_void_p, c_int64, c_int64, c_int64, c_int, c_void_p),
    "linear": (c_int, c_void_p, c_int64, c_int64, POINTER(MatrixLayout), c_void_p, c_int64, c_int),
    "mlp": (
        c_int, c_int, c_void_p, c_int64, c_int64, POINTER(MatrixLayout), POINTER(MatrixLayout), c_int, c_void_p,
        c_int64, c_int,
    ),
    "rms_norm": (c_int, c_void_p, c_int64, c_int64, c_int64, c_void_p, c_float, c_void_p, c_int),
    "attention": (
        c_int, c_void_p, c_int64, c_void_p, c_void_p, c_void_p, c_void_p, c_int64, POINTER(HeadsLayout), c_void_p,
        c_int64, c_void_p, c_int,
    ),
}  # fmt: skip


class Kernels:
    """The functions of the compiled library, with their argument types set; ctypes lets other threads run meanwhile."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.pack, self.linear, self.mlp, self.rms_norm, self.attention = (
            self._function(library, name) for name in _ARGUMENTS
        )

    @staticmethod
    def _function(library: ctypes.CDLL, name: str) -> ctypes._NamedFuncPointer:
        function = library[f"tiebreak_{name}"]
        function.argtypes = _ARGUMENTS[name]
        function.restype = None
        return function


@dataclass(frozen=True)
class Unavailable:
    """Why there are no kernels here."""

    reason: str


@functools.cache
def load_kernels() -> Kernels | Unavailable:
    """The kernels for this processor, compiled now unless an earlier run did."""
    if os.environ.get(SWITCH) == "off":
        return Unavailable(f"{SWITCH}=off")
    if not _can_run():
        return Unavailable("the processor has no AVX512-BF16 and VNNI")
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "g++", "c++", "clang++"))), None)
    if compiler is None:
        return Unavailable("no C++ compiler (g++) is installed")
    try:
        return Kernels(ctypes.CDLL(str(_compiled(compiler))))
    except (subprocess.SubprocessError, OSError, TiebreakError) as error:
        return Unavailable(f"the kernels could not be compiled: {_last_line(error)}")


def _can_run() -> bool:
    if platform.machine() not in {"x86_64", "AMD64"}:
        return False
    return bool(torch.cpu._is_avx512_bf16_supported() and torch.cpu._is_vnni_supported())


def _compiled(compiler: str) -> Path:
    """The library for this source, compiler and processor."""
    made = _cache() / f"kernels-{_fingerprint(compiler)}.so"
    if not made.is_file():
        with replacing(made) as aside:
            subprocess.run(
                [compiler, *FLAGS, str(SOURCES / "kernels.cpp"), "-o", str(aside)],
                check=True,
                capture_output=True,
                timeout=300,
            )
    return made


def _fingerprint(compiler: str) -> str:
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, timeout=60).stdout
    try:
        info = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        info = [platform.processor()]
    processor = sorted({line for line in info if line.startswith(("model name", "flags"))})
    sources = (file.read_bytes() for file in sorted(SOURCES.iterdir()))
    parts = [*sources, version, " ".join(FLAGS).encode(), "\n".join(processor).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:20]


def _cache() -> Path:
    """A folder that only this user can write: what lies in it is executed."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "tiebreak"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="tiebreak-"))
    mine = folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o022
    return folder if mine and os.access(folder, os.W_OK) else Path(tempfile.mkdtemp(prefix="tiebreak-"))


def _last_line(error: Exception) -> str:
    stderr = getattr(error, "stderr", None)
    lines = (stderr.decode(errors="replace") if stderr else str(error)).strip().splitlines()
    return next((line for line in lines if "error" in line), lines[-1] if lines else type(error).__name__)
