"""Means of gradients of which few rows are not zero: each tensor's are sent as rows where that is shorter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loosestep.requests import AllGather, AllReduce, Exchange, Start, Wait
from loosestep.requests.row_gradients import Form, Packing, dealt

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from loosestep.requests import Request
    from loosestep.requests.row_gradients import List, RowTensor
    from loosestep.requests.worker import Worker


def mean_of_rows(worker: Worker, weight: float) -> Iterator[Request]:
    """Yield what makes the gradients of `worker.row_tensors` the weighted means over all n workers.

    Each worker has merged the rows of its own gradient, k of them. First all tell their k, and their weights: the
    only message that there is besides, 8 bytes for each tensor and 8 for the weight. Then a tensor of R rows of w
    values of s bytes goes in the `Form` of the fewest bytes, U being unknown and at most min(R, n max(k)):

        lists   (n-1) max(k) (w s + 4)
        owners  (max(k) + (n-1)/n U) (w s + 4) + 8 (n-1) (n+3), unless some workers share a host and others do not
        whole   2 (n-1)/n R w s

    so never more than the whole, and what all tell each other, over all workers. On hosts of several workers lists
    and whole tensors cross the links between hosts in the same proportion. All workers know the same numbers, so
    all choose alike. The bits are those of the whole tensors' means, whatever the form.
    """
    tensors = worker.row_tensors
    if not tensors or worker.size == 1:
        return
    counts, weights = yield from tell(worker, weight)
    longest = [max(each) for each in zip(*counts, strict=True)]
    owners = not 1 < len(worker.hosts) < worker.size
    forms = [
        each.form(worker.size, most, worker.grad.itemsize, owners=owners)
        for each, most in zip(tensors, longest, strict=True)
    ]
    means = []
    for tensor, form in zip(tensors, forms, strict=True):
        if form is Form.WHOLE:
            tensor.filled = None
            means.append(AllReduce(tensor.values(worker.grad), op="mean", weight=weight))
            yield Start(means[-1])
    yield from gather_rows(
        worker, [place for place, form in enumerate(forms) if form is Form.LISTS], counts, weights
    )
    owned = [tensor for tensor, form in zip(tensors, forms, strict=True) if form is Form.OWNERS]
    if owned:
        yield from deal_rows(worker, owned, weights)
    for mean in means:
        yield Wait(mean)


def tell(worker: Worker, weight: float) -> Generator[Request, None, tuple[list[list[int]], list[float]]]:
    """Yield what tells all workers how many rows each has of each tensor; return that, and their weights."""
    tensors = worker.row_tensors
    mine = worker.workspace("counts", 1 + len(tensors), float)
    come = worker.workspace("counts of all", mine.size * worker.size, float)
    mine[0] = weight
    for place, tensor in enumerate(tensors, 1):
        mine[place] = tensor.find(worker.grad).size if weight else 0
    yield AllGather(mine, come)
    told = come.reshape(worker.size, -1)
    return told[:, 1:].astype(int).tolist(), told[:, 0].tolist()


def gather_rows(
    worker: Worker, chosen: list[int], counts: list[list[int]], weights: list[float]
) -> Iterator[Request]:
    """Yield what brings the lists of some tensors from all workers, and set their gradients to the means."""
    tensors = [worker.row_tensors[place] for place in chosen]
    counts = [[row[place] for place in chosen] for row in counts]
    longest = [max(each) for each in zip(*counts, strict=True)]
    packing = Packing(list(zip(tensors, longest, strict=True)), worker.grad.dtype)
    mine = worker.room("own rows", packing.words)
    come = worker.room("rows of all", packing.words * worker.size)
    if weights[worker.rank]:
        packing.pack(mine, [tensor.rows(worker.grad) for tensor in tensors])
    if packing.words:
        yield AllGather(mine, come)
    messages = zip(come.reshape(worker.size, -1), counts, strict=True)
    lists = [packing.unpack(message, row) for message, row in messages]
    for tensor, of_all in zip(tensors, zip(*lists, strict=True), strict=True):
        tensor.put(worker.grad, [tensor.mean(of_all, weights, worker.hosts)])


def deal_rows(worker: Worker, tensors: list[RowTensor], weights: list[float]) -> Iterator[Request]:
    """Yield what brings the rows of some tensors to their owners, and the means from these to all."""
    n, me = worker.size, worker.rank
    lists = [tensor.rows(worker.grad) for tensor in tensors]
    if not weights[me]:
        lists = [(rows[:0], values[:0]) for rows, values in lists]
    parts = dealt(lists, n)
    told = yield from tell_counts(worker, [rows.size for part in parts for rows, _ in part])
    ours = [
        row[me * len(tensors) : (me + 1) * len(tensors)] for row in told
    ]  # that each has of what this one owns
    come = yield from trade(worker, tensors, parts, ours)
    means = [tensor.mean(of_all, weights) for tensor, of_all in zip(tensors, zip(*come, strict=True), strict=True)]
    told = yield from tell_counts(worker, [rows.size for rows, _ in means])
    come = yield from trade(worker, tensors, [means] * n, told)
    for tensor, of_all in zip(tensors, zip(*come, strict=True), strict=True):
        tensor.put(worker.grad, of_all)


def tell_counts(worker: Worker, counts: list[int]) -> Generator[Request, None, list[list[int]]]:
    """Yield what tells all workers some numbers of each; return them."""
    mine = worker.workspace(("counts", len(counts)), len(counts), float)
    come = worker.workspace(("counts of all", len(counts)), len(counts) * worker.size, float)
    mine[:] = counts
    yield AllGather(mine, come)
    return come.reshape(worker.size, -1).astype(int).tolist()


def trade(
    worker: Worker, tensors: list[RowTensor], parts: Sequence[Sequence[List]], counts: list[list[int]]
) -> Generator[Request, None, list[Sequence[List]]]:
    """Yield what sends each other worker its part, and brings one from each, of so many rows; return what came."""
    sends, recvs, come = [], [], []
    for rank in range(worker.size):
        of_sent, of_come = (
            Packing(list(zip(tensors, each, strict=True)), worker.grad.dtype)
            for each in ([rows.size for rows, _ in parts[rank]], counts[rank])
        )
        sent, got = worker.room(("sent", rank), of_sent.words), worker.room(("come", rank), of_come.words)
        come.append((of_come, got))
        if rank == worker.rank:
            continue
        of_sent.pack(sent, parts[rank])
        sends += [(rank, sent)] if of_sent.words else []
        recvs += [(rank, got)] if of_come.words else []
    yield Exchange(sends, recvs)
    return [
        parts[rank] if rank == worker.rank else packing.unpack(got, counts[rank])
        for rank, (packing, got) in enumerate(come)
    ]


def with_whole_gradients(worker: Worker, requests: Iterator[Request]) -> Iterator[Request]:
    """Yield the requests of a round whose means are of whole gradients, for who replaces these."""
    while True:
        row_tensors, worker.row_tensors = worker.row_tensors, ()
        try:
            request = next(requests, None)
        finally:
            worker.row_tensors = row_tensors
        if request is None:
            return
        yield request
