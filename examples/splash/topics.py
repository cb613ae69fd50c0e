"""Topics (LDA) by collapsed Gibbs sampling, a token at a time: alone, or `loosestep run -n 2 SCRIPT`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loosestep import splash
from loosestep.transports.launched import launched

Array = NDArray[Any]


class Token(NamedTuple):
    document: int
    place: int  # in the document
    word: int


@dataclass(frozen=True)
class LDA:
    """Counts of words by topic are shared; a document's own counts are local to it."""

    topics: int
    words: int
    alpha: float = 0.5
    beta: float = 0.1

    def variables(self) -> dict[str, Array]:
        return {"words": np.zeros((self.words, self.topics)), "topics": np.zeros(self.topics)}

    def process(self, token: Token, weight: float, shared: splash.Variables, local: dict[Any, Any]) -> None:
        """Draw the token's topic anew. What it had is taken out of the shared counts already, by `delayed_add`."""
        counts = local.setdefault("counts", np.zeros(self.topics))
        if token.place in local:
            counts[local[token.place]] -= 1
        likely = shared["words"][token.word] + self.beta
        likely *= (counts + self.alpha) / (shared["topics"] + self.beta * self.words)
        sums = likely.cumsum()
        topic = int(sums.searchsorted(shared.random.random() * sums[-1]))
        local[token.place] = topic
        counts[topic] += 1
        shared.add("words", weight, at=(token.word, topic))
        shared.add("topics", weight, at=topic)
        shared.delayed_add("words", -weight, at=(token.word, topic))
        shared.delayed_add("topics", -weight, at=topic)

    def loss(self, token: Token, shared: splash.Values, local: dict[Any, Any]) -> float:
        """-log p(word | document); its mean is the logarithm of the perplexity."""
        counts = local["counts"]
        mixture = (counts + self.alpha) / (counts.sum() + self.alpha * self.topics)
        chances = (shared["words"][token.word] + self.beta) / (shared["topics"] + self.beta * self.words)
        return -float(np.log(mixture @ chances))


def document_of(token: Token) -> int:
    return token.document


def corpus(documents: int, length: int, topics: int, words: int, seed: int = 0) -> list[Token]:
    """Tokens of documents, each with a few topics, each topic with some words."""
    draw = np.random.default_rng(seed)
    of_topic = draw.dirichlet(np.full(words, 0.05), topics)
    tokens = []
    for document in range(documents):
        chances = draw.dirichlet(np.full(topics, 0.2)) @ of_topic
        drawn = draw.choice(words, length, p=chances)
        tokens += [Token(document, place, int(word)) for place, word in enumerate(drawn)]
    return tokens


def main(options: argparse.Namespace) -> None:
    on = launched()
    model = LDA(options.topics, 300)
    tokens = corpus(options.documents, 40, options.topics, 300)
    result = splash.run(
        model.process, tokens, model.variables(), passes=options.passes, on=on,
        loss=model.loss, group=document_of,
    )  # fmt: skip
    if getattr(on, "rank", 0) == 0:
        print(f"perplexity {np.exp(result.metrics['loss']):.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--topics", type=int, default=8)
    parser.add_argument("--passes", type=int, default=20)
    main(parser.parse_args())
