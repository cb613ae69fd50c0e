"""Means of gradients of which few rows are not zero: each tensor's are sent as rows where that is shorter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loosestep.requests import AllGather, AllReduce, Start, Wait
from loosestep.requests.row_gradients import Packing

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from loosestep.requests import Request
    from loosestep.requests.row_gradients import RowTensor
    from loosestep.requests.worker import Worker


def mean_of_rows(worker: Worker, weight: float) -> Iterator[Request]:
    """Yield what makes the gradients of `worker.row_tensors` the weighted means over all n workers.

    Each worker has merged the rows of its own gradient, k of them. First all tell their k, and their weights: the
    only message that there is besides, 8 bytes for each tensor and 8 for the weight. Then a tensor of R rows of w
    values of s bytes goes as rows where the longest list is short enough,

        n max(k) (w s + 4) < 2 R w s,

    and whole where it is not. A worker sends (n-1) max(k) (w s + 4) bytes as rows, since shorter lists are filled
    up, and 2 (n-1)/n R w s whole: so never more than the whole, and what all tell each other. On hosts of several
    workers both cross the links between hosts in the same proportion. All workers know the same numbers, so all
    choose alike. The bits are those of the whole tensors' means.
    """
    tensors = worker.row_tensors
    if not tensors or worker.size == 1:
        return
    counts, weights = yield from tell(worker, weight)
    longest = [max(each) for each in zip(*counts, strict=True)]
    itemsize = worker.grad.itemsize
    short = [each.is_shorter(worker.size, most, itemsize) for each, most in zip(tensors, longest, strict=True)]
    means = []
    for tensor, is_short in zip(tensors, short, strict=True):
        if not is_short:
            tensor.filled = None
            means.append(AllReduce(tensor.values(worker.grad), op="mean", weight=weight))
            yield Start(means[-1])
    yield from gather_rows(worker, [number for number, is_short in enumerate(short) if is_short], counts, weights)
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
    """Yield what brings the rows of some tensors from all workers, and set their gradients to the means."""
    tensors: list[RowTensor] = [worker.row_tensors[number] for number in chosen]
    mine_of = [[row[number] for number in chosen] for row in counts]
    longest = [max(each) for each in zip(*mine_of, strict=True)]
    packing = Packing(list(zip(tensors, longest, strict=True)), worker.grad.dtype)
    mine = worker.room("own rows", packing.words)
    come = worker.room("rows of all", packing.words * worker.size)
    if weights[worker.rank]:
        packing.pack(worker.grad, mine)
    if packing.words:
        yield AllGather(mine, come)
    messages = zip(come.reshape(worker.size, -1), mine_of, strict=True)
    lists = [packing.unpack(message, row) for message, row in messages]
    for tensor, of_all in zip(tensors, zip(*lists, strict=True), strict=True):
        tensor.set_mean(worker.grad, of_all, weights, worker.hosts)


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
