"""The devices that the driver reports, and how fast one copies."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_int
from statistics import median
from typing import TYPE_CHECKING, Any

from loosestep.cuda import cache
from loosestep.cuda.launch import cupy
from loosestep.foundation.errors import CudaError

if TYPE_CHECKING:
    from collections.abc import Callable

COPIED = 1 << 28
"""Bytes: more than any GPU's L2 holds."""
REPEATS = 9
"""Copies that are timed, after one to warm up."""
DRIVER = "libcuda.so.1"


def names(library: str = "") -> list[str]:
    """Return the names of all devices. Raises CudaError where there is no driver."""
    driver = driver_of(library or DRIVER)
    count = c_int()
    asked(driver, "cuDeviceGetCount", byref(count))
    return [name_of(driver, number) for number in range(count.value)]


def driver_of(library: str) -> ctypes.CDLL:
    """Return the driver, initialised."""
    try:
        driver = ctypes.CDLL(library)
    except OSError as error:
        raise CudaError(f"no driver: {library} is not on this machine") from error
    asked(driver, "cuInit", 0)
    return driver


def asked(driver: ctypes.CDLL, name: str, *arguments: Any) -> None:
    """Call a function of the driver, and check its status."""
    status = getattr(driver, name)(*arguments)
    if status:
        raise CudaError(f"no GPU: the driver's {name} gives error {status}")


def name_of(driver: ctypes.CDLL, number: int) -> str:
    """Return NVIDIA's name of a device."""
    device, name = c_int(), ctypes.create_string_buffer(256)
    asked(driver, "cuDeviceGet", byref(device), number)
    asked(driver, "cuDeviceGetName", name, 256, device)
    return name.value.decode()


def first() -> str:
    """Return the name of the first device; raise CudaError where there is none."""
    found = names()
    if not found:
        raise CudaError("no GPU: the driver knows none")
    return found[0]


def inspect() -> dict[str, Any]:
    """Return the first device, or why there is none, its copy rate, and the number of cached kernels."""
    kernels, size = cache.state()
    found: dict[str, Any] = {"name": None, "why": None, "copy": None}
    try:
        found["name"] = first()
        found["copy"] = copy_rate()
    except CudaError as failed:
        found["why"] = str(failed)
    return {**found, "kernels": kernels, "kernel_bytes": size, "cache": str(cache.folder())}


def copy_rate() -> float:
    """Return bytes read and written a second by the driver's own copy within the device."""
    module = cupy()
    try:
        x, out = (module.zeros(COPIED // 4, module.float32) for _ in range(2))
        taken = [elapsed(lambda: out.data.copy_from_device_async(x.data, COPIED)) for _ in range(1 + REPEATS)]
    except Exception as error:
        raise CudaError(f"how fast the GPU copies cannot be measured: {error}") from error
    return 2 * COPIED / median(taken[1:])


def elapsed(work: Callable[[], object]) -> float:
    """Return the seconds that a call takes on the device, between events on the current stream."""
    events = cupy().cuda
    begin, end = events.Event(), events.Event()
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(events.get_elapsed_time(begin, end)) / 1e3
