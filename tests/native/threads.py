"""What the tests of worker threads have in common."""

import threading

import numpy as np

PATIENCE = 60.0


def on_threads(size, work):
    """Runs work(rank) on one thread a rank; the first exception is the caller's."""
    results, errors = [None] * size, []

    def guarded(rank):
        try:
            results[rank] = work(rank)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def arrays(size, length, dtype=np.float32, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(length).astype(dtype) for _ in range(size)]


def fold(xs, op="sum"):
    result = xs[0].copy()
    for x in xs[1:]:
        result = {"max": np.maximum, "min": np.minimum}.get(op, np.add)(result, x)
    return result / result.dtype.type(len(xs)) if op == "mean" else result


def done(team, rank, ticket):
    assert team.complete(rank, ticket, PATIENCE) == "done"


def same_bits(a, b):
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()
