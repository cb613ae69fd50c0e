"""What is said of GPUs: by a driver that is not there, by one that knows none, by one that has two."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.cuda.emulated.emulation import needs_compiler
from tests.cuda.emulated.stub import stub_gpu

from loosestep.cli import machine_info
from loosestep.cuda import device
from loosestep.foundation.errors import CudaError

SOURCE = """
#include <string.h>
int cuInit(unsigned flags) { return STATUS; }
int cuDeviceGetCount(int* count) { *count = COUNT; return 0; }
int cuDeviceGet(int* device, int number) { *device = 10 + number; return 0; }
int cuDeviceGetName(char* name, int room, int device) {
  strncpy(name, device == 10 ? "First" : "Second", room);
  return 0;
}
"""


def driver(folder: Path, status: int, count: int) -> str:
    """A driver of ours that says this much."""
    needs_compiler()
    file = folder / f"libdriver{status}{count}.so"
    command = [
        "g++",
        "-x",
        "c",
        "-shared",
        "-fPIC",
        f"-DSTATUS={status}",
        f"-DCOUNT={count}",
        "-",
        "-o",
        str(file),
    ]
    subprocess.run(command, input=SOURCE, text=True, check=True)
    return str(file)


def test_no_driver_is_a_sentence() -> None:
    with pytest.raises(CudaError) as caught:
        device.names("libnodriver.so")
    assert str(caught.value) == "no driver: libnodriver.so is not on this machine"


def test_gpus_have_names(tmp_path: Path) -> None:
    assert device.names(driver(tmp_path, 0, 2)) == ["First", "Second"]


def test_a_driver_without_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(CudaError, match="no GPU: the driver's cuInit gives error 100"):
        device.names(driver(tmp_path, 100, 0))


def test_no_gpu_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    none = driver(tmp_path, 0, 0)
    monkeypatch.setattr(device, "DRIVER", none)
    with pytest.raises(CudaError, match="no GPU: the driver knows none"):
        device.first()


def told(monkeypatch: pytest.MonkeyPatch, folder: Path) -> str:
    monkeypatch.setenv("LOOSESTEP_CACHE_DIR", str(folder))
    return machine_info._gpu(device.inspect())


def test_info_says_why_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device, "DRIVER", "libnodriver.so")
    wanted = "no driver: libnodriver.so is not on this machine (0 compiled kernels kept, 0 B)"
    assert told(monkeypatch, tmp_path) == wanted


def test_info_measures_the_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """2 x 268 MB in 4 ms."""
    copies: list[Any] = []
    data = SimpleNamespace(copy_from_device_async=lambda source, size: copies.append(size))
    with stub_gpu(monkeypatch, tmp_path):
        cupy = device.cupy()
        cupy.zeros = lambda n, dtype: SimpleNamespace(data=data)
        monkeypatch.setattr(device, "DRIVER", driver(tmp_path, 0, 1))
        wanted = "First: copies at 134 GB/s read and written (0 compiled kernels kept, 0 B)"
        assert told(monkeypatch, tmp_path) == wanted
    assert copies == [1 << 28] * 10


def test_info_says_what_a_gpu_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*given: Any) -> None:
        raise RuntimeError("out of memory allocating 268,435,456 bytes")

    with stub_gpu(monkeypatch, tmp_path):
        device.cupy().zeros = full
        monkeypatch.setattr(device, "DRIVER", driver(tmp_path, 0, 1))
        assert told(monkeypatch, tmp_path).startswith(
            "First: how fast the GPU copies cannot be measured: out of memory allocating 268,435,456 bytes ("
        )
