"""Train on compressed files, so that there is something to wait for; `--cache` keeps them in memory.

Run it: loosestep stalls data_stalls.py [--folder DIR] [--workers 0] [--cache BYTES] [--images 512] [--epochs 1]

It makes the files if the folder has none: images of 3 x 64 x 64 numbers from 0 to 255, each a file of 12 kB.
"""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from loosestep.data import MinIOCache

SHAPE, CLASSES, BATCH = (3, 64, 64), 10, 8


def make(folder: Path, images: int) -> None:
    """Write the images, whose brightness is their class."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(images):
        pixels = random.integers(0, 100, SHAPE, dtype=np.uint8) + 15 * (number % CLASSES)
        (folder / f"{number:05}.z").write_bytes(zlib.compress(pixels.astype(np.uint8).tobytes()))


class Files(Dataset[Any]):
    """Compressed images, as bytes, with their classes."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.z"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[bytes, int]:
        return self.files[number].read_bytes(), number % CLASSES


def decoded(sample: tuple[bytes, int]) -> tuple[torch.Tensor, int]:
    """Return an image, flipped at random, and its class: random, so it comes after the cache."""
    image = torch.frombuffer(bytearray(zlib.decompress(sample[0])), dtype=torch.uint8)
    image = image.reshape(SHAPE).float() / 255
    return (image.flip(2) if torch.rand(()) < 0.5 else image), sample[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("images"))
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--cache", type=int, default=0, metavar="BYTES")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=1)
    given = parser.parse_args()
    if not given.folder.is_dir():
        make(given.folder, given.images)

    images: Any = MinIOCache(Files(given.folder), given.cache, transform=decoded)
    loader = DataLoader(images, batch_size=BATCH, shuffle=True, num_workers=given.workers)
    model = nn.Sequential(nn.Conv2d(3, 16, 5, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 30 * 30, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for epoch in range(given.epochs):
        for x, label in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), label)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.3f}, {images.stats()}")


if __name__ == "__main__":
    main()
