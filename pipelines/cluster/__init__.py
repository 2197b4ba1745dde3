"""Ray itself: how it starts, what its processes import, tasks and pools of actors on it, and its errors unwrapped.

starting.py     ``ray_cluster``: the cluster for a block of code; Ray Data's context
imports.py      our own packages in every process, whatever lies in the working directory
nodes.py        the cluster's nodes as Ray tells of them, and what its autoscaler is asked for
capacity.py     how many processes the nodes have room for, and the wait until there is enough
option_texts.py numbers of processes and times, as they are written for options
tasks.py        independent calls, on the cluster or in threads
actor_pool.py   a pool of actors that outlive each other
submission.py   commands of condgen as jobs of a cluster
gauges.py       gauges of Ray's metrics that last
errors.py       ``unwrap``: the error of ours that Ray's wrappers carry
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
