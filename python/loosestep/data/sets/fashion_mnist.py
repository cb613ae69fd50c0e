"""Fashion-MNIST (H. Xiao et al., arXiv:1708.07747): 60,000 + 10,000 images of clothes, ten classes."""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.request
from pathlib import Path

from loosestep.data import idx
from loosestep.data.dataset import Dataset, standardized
from loosestep.foundation.files import replace

# As the authors publish them: the MD5 of each file as it is downloaded.
FILES = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
SOURCE = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
WAYS = (
    f"give the folder of its four files ({', '.join(FILES)}), "
    f"install Debian's package dataset-fashion-mnist, or have a network that reaches {SOURCE}"
)


def read(folder: Path | None) -> Dataset:
    """Return standardized pixels, from `folder`, else Debian's place, else this user's cache, else the network."""
    place = _given(folder) if folder is not None else _found()
    x_train, y_train, x_test, y_test = (idx.read(place / name) for name in FILES)
    x_train, x_test = standardized(x_train, x_test)
    return Dataset("fashion-mnist", x_train, y_train, x_test, y_test)


def _given(folder: Path) -> Path:
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"fashion-mnist: {folder} lacks {', '.join(missing)}")
    return folder


def _found() -> Path:
    for place in (DEBIAN, _cache()):
        if all((place / name).is_file() for name in FILES):
            return place
    try:
        return _download(_cache())
    except OSError as error:  # URLError and timeouts among them
        raise OSError(f"fashion-mnist is not here and cannot be downloaded ({error}): {WAYS}") from error


def _cache() -> Path:
    """Return the folder of this user's downloads, by the custom of each system."""
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        home = str(Path.home() / "Library" / "Caches")
    else:
        home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "loosestep" / "fashion-mnist"


def _download(place: Path) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    for name, checksum in FILES.items():
        if not (place / name).is_file():
            _fetch(place / name, checksum)
    return place


def _fetch(path: Path, checksum: str) -> None:
    with urllib.request.urlopen(SOURCE + path.name, timeout=30) as answer:
        content = answer.read()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != checksum:
        raise OSError(f"{path.name} has the checksum {found} and not {checksum}")
    replace(path, content)
