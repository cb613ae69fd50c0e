"""Train a part-of-speech tagger: an embedding and a bidirectional LSTM, in PyTorch.

Run it: python single.py FOLDER, or loosestep run -n 4 parallel.py FOLDER

FOLDER holds ud_english_ewt_{train,test}.tsv.xz: "word TAB tag" on a line, an empty line after a sentence.
"""

from __future__ import annotations

import argparse
import lzma
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

import loosestep.torch

Sentence = tuple[torch.Tensor, torch.Tensor]  # numbers of words, numbers of tags
Rows = list[Sentence]
PAD, UNKNOWN = 0, 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=100_000, help="sentences to train with; there are 12,544")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=0.003)
    parser.add_argument("--save", default="tagging.pt", help="the file for the trained network")
    return parser.parse_args()


def read(folder: Path, part: str) -> list[list[tuple[str, ...]]]:
    """Return the sentences of a file, as lists of (word, tag)."""
    with lzma.open(folder / f"ud_english_ewt_{part}.tsv.xz", "rt", encoding="utf-8") as file:
        paragraphs = file.read().strip("\n").split("\n\n")
    return [[tuple(line.split("\t")) for line in paragraph.split("\n")] for paragraph in paragraphs]


class Numbers:
    """Numbers for the words that occur at least twice, and for the tags."""

    def __init__(self, sentences: Iterable[list[tuple[str, ...]]]) -> None:
        pairs = [pair for sentence in sentences for pair in sentence]
        counts = Counter(word.lower() for word, _ in pairs)
        common = sorted(word for word, count in counts.items() if count > 1)
        self.words = {word: number for number, word in enumerate(common, UNKNOWN + 1)}
        self.tags = {tag: number for number, tag in enumerate(sorted({tag for _, tag in pairs}), PAD + 1)}

    def of(self, sentence: list[tuple[str, ...]]) -> Sentence:
        words = [self.words.get(word.lower(), UNKNOWN) for word, _ in sentence]
        return torch.tensor(words), torch.tensor([self.tags.get(tag, PAD) for _, tag in sentence])


class Tagger(nn.Module):
    def __init__(self, words: int, tags: int, width: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width, padding_idx=PAD)
        self.lstm = nn.LSTM(width, width, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * width, tags)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.out(self.lstm(self.embedding(words))[0])


def padded(sentences: Rows) -> Sentence:
    words, tags = zip(*sentences, strict=True)
    return pad_sequence(words, batch_first=True), pad_sequence(tags, batch_first=True)


@torch.no_grad()
def accuracy(model: nn.Module, sentences: Rows) -> float:
    """Return the fraction of words whose tag is right."""
    right = total = 0
    for words, tags in DataLoader(sentences, batch_size=100, collate_fn=padded):
        told = words != PAD
        right += ((model(words).argmax(2) == tags) & told).sum().item()
        total += told.sum().item()
    return right / total


def report(epoch: int, model: nn.Module, test: Rows) -> None:
    print(f"epoch {epoch + 1}: test accuracy {accuracy(model, test):.4f}", flush=True)


def learn(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: DataLoader, test: Rows, epochs: int
) -> None:
    loss = nn.CrossEntropyLoss(ignore_index=PAD)
    for epoch in range(epochs):
        for words, tags in batches:
            optimizer.zero_grad()
            loss(model(words).flatten(0, 1), tags.flatten()).backward()
            optimizer.step()
        optimizer.once(report, epoch, model, test)


def main() -> None:
    options = arguments()
    torch.manual_seed(0)
    sentences = read(options.folder, "train")[: options.rows]
    numbers = Numbers(sentences)
    rows, test = ([numbers.of(one) for one in part] for part in (sentences, read(options.folder, "test")))
    model = Tagger(len(numbers.words) + 2, len(numbers.tags) + 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=options.rate)
    optimizer = loosestep.torch.parallel(model, optimizer, loosestep.LocalSGD(period=8))
    batches = DataLoader(rows, batch_sampler=optimizer.shard(rows, options.batch), collate_fn=padded)
    learn(model, optimizer, batches, test, options.epochs)
    optimizer.once(torch.save, model.state_dict(), options.save)


if __name__ == "__main__":
    main()
