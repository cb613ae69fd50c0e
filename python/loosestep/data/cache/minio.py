"""A data set with a cache of its samples that never evicts: MinIO's."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from operator import index
from typing import Any, Protocol

from loosestep.data.cache import samples
from loosestep.data.cache.frames import Refused, key_of
from loosestep.data.cache.service import Peers, Service, parsed
from loosestep.data.cache.store import CacheStats, Store
from loosestep.data.shared_memory import Named
from loosestep.foundation import checks

KEY = "LOOSESTEP_KEY"
HIT, REMOTE, MISS, FAILURE = range(4)  # the columns of the counters


class Indexed(Protocol):
    """A map-style data set."""

    def __getitem__(self, number: int, /) -> Any: ...
    def __len__(self) -> int: ...


class MinIOCache:
    """A map-style data set whose samples stay in shared memory, up to `capacity` bytes, and are never evicted.

    A sample that is asked for is taken from memory, else from `dataset`, and then kept if there is still room for
    it. With C of D samples in the cache, and each asked for once an epoch, in any order,

        hits in every epoch after the first = C,      a share c = C / D

    where least-recently-used caches, as the system's page cache, reach c + (1 - c) ln(1 - c) in random orders: 15%
    for c = 0.5. Samples are kept as bytes (pickled), so each `cache[i]` is a copy of its own.

    dataset: anything with `__getitem__` and `__len__`, as map-style data sets of torch. What it does with a sample
        is done once, so random augmentation belongs in `transform`, or all epochs see the same.
    capacity: bytes of samples in the memory of this host, for all of its processes together; 0 keeps none. Memory
        is taken as it fills up, and is neither in /dev/shm nor left behind, however processes end.
    transform: a function of a sample, applied to it each time, whether it comes from the cache or not.
    name: processes of this user on this host that give the same name, such as ranks of a job, have one cache.
        Without a name it is this process's and its children's: workers of a DataLoader, forked or spawned.
    hosts, host: addresses "name:port" of all hosts, and which is this one's. Sample i is then kept by host
        i % len(hosts) alone, and the others fetch it from there: together they hold the sum of the capacities. On
        each host the first process of the name answers. A host that does not answer is left out for half a minute.
    key: a secret text, the same on all hosts, or the variable LOOSESTEP_KEY; required where there are several
        hosts. It shows who may take part; what they send is not encrypted.
    deadline: seconds to wait for another process or host, after which the sample is read from the data set.

    Raises MemoryError if capacity is more than the system's memory, ValueError if a cache of that name is another
    one, TypeError, which names it, for a sample that cannot be pickled.

    Reference: MinIO and partitioned caching, in J. Mohan, A. Phanishayee, A. Raniwala, V. Chidambaram, Analyzing
    and Mitigating Data Stalls in DNN Training, PVLDB 14(5), 2021, arXiv:2007.06775.

    >>> from loosestep.data import MinIOCache
    >>> cache = MinIOCache([bytes([i]) * 100 for i in range(10)], capacity=600)
    >>> samples = [cache[i] for _ in range(3) for i in range(10)]
    >>> cache.stats().stored, cache.stats().hits
    (5, 10)
    """

    def __init__(
        self,
        dataset: Indexed,
        capacity: int,
        *,
        transform: Callable[[Any], Any] | None = None,
        name: str | None = None,
        hosts: Sequence[str] = (),
        host: int = 0,
        key: str | None = None,
        deadline: float = 10.0,
    ) -> None:
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise TypeError(f"dataset must have __getitem__ and __len__, as a map-style data set, got {dataset!r}")
        checks.integer("capacity", capacity, 0)
        checks.positive("deadline", deadline)
        if transform is not None:
            checks.callable_("transform", transform, " of a sample")
        self.dataset, self.transform = dataset, transform
        items = len(dataset)
        addresses = [parsed(each) for each in hosts]
        checks.integer("host", host, 0, max(0, len(addresses) - 1))
        secret = key or os.environ.get(KEY)
        if len(addresses) > 1 and not secret:
            raise ValueError(f"several hosts need a key: give key=, the same on all of them, or set {KEY}")
        self.named: Named | None = None
        if name is None:
            segment = Store.make(items, capacity)
        else:
            self.named = Named(f"cache/{name}", lambda: Store.make(items, capacity))
            segment = self.named.segment
        self.store = Store(segment, deadline)
        self.store.check(items, capacity)
        self.peers: Peers | None = None
        self.service: Service | None = None
        if len(addresses) > 1 and secret:
            self.peers = Peers(addresses, host, key_of(secret), items, deadline)
            if self.named is None or self.named.first:
                self.service = Service(addresses[host], key_of(secret), self.store)

    def __len__(self) -> int:
        return self.store.items

    def __getitem__(self, number: int) -> Any:
        """Return a sample; negative numbers count from the end."""
        place = index(number)
        place += self.store.items if place < 0 else 0
        if not 0 <= place < self.store.items:
            raise IndexError(f"the data set has {self.store.items} samples, got {number}")
        sample = (
            self._remote(place) if self.peers and self.peers.owner(place) != self.peers.me else self._local(place)
        )
        return sample if self.transform is None else self.transform(sample)

    def _local(self, number: int) -> Any:
        """Return a sample that this host keeps."""
        found = self.store.get(number)
        if found is not None:
            self.store.count(HIT)
            return samples.loaded(found)
        sample = self.dataset[number]
        self.store.count(MISS)
        if self.store.room:
            self._keep(number, samples.dumped(sample, number, self.dataset))
        return sample

    def _keep(self, number: int, content: bytes) -> None:
        try:
            self.store.put(number, content)
        except TimeoutError as error:
            self.store.deadline = 0.0  # from now on a lock that is held is not waited for
            warnings.warn(f"sample {number} is not kept: {error}", RuntimeWarning, stacklevel=3)

    def _remote(self, number: int) -> Any:
        """Return a sample that another host keeps."""
        assert self.peers is not None
        try:
            content, room = self.peers.get(number)
        except (OSError, Refused):  # the user was warned
            self.store.count(MISS, FAILURE)
            return self.dataset[number]
        if content is not None:
            self.store.count(REMOTE)
            return samples.loaded(memoryview(content))
        sample = self.dataset[number]
        self.store.count(MISS)
        if room:
            given = samples.dumped(sample, number, self.dataset)
            if len(given) <= room:
                try:
                    self.peers.put(number, given)
                except (OSError, Refused):
                    self.store.count(FAILURE)
        return sample

    def stats(self) -> CacheStats:
        """Return the counts of all processes of this host since the cache was made."""
        return self.store.stats()

    def close(self) -> None:
        """Answer other hosts no more, and give up the name; samples stay as long as a process has the cache."""
        for part in (self.service, self.named, self.peers):
            if part is not None:
                part.close()

    def __del__(self) -> None:
        if "service" in vars(self):
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process of this host needs: the same memory, and how to ask other hosts."""
        peers = self.peers
        asked = None if peers is None else (peers.hosts, peers.me, peers.key, peers.items, peers.deadline)
        kept = {"dataset": self.dataset, "transform": self.transform}
        return {**kept, "segment": self.store.segment, "deadline": self.store.deadline, "peers": asked}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.dataset, self.transform = state["dataset"], state["transform"]
        self.store = Store(state["segment"], state["deadline"])
        self.peers = None if state["peers"] is None else Peers(*state["peers"])
        self.named = self.service = None
