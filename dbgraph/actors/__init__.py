"""The actors of a run with replicas: what computes and what says what to whom, above the pure
state machines of `dbgraph.ps` and `dbgraph.coordinate`. No sockets, no threads, no clock.

- `shard`: one shard of the parameter server;
- `partition`: one partition's machine; `replica` and `gradients`: the actor around it, under
  Downpour SGD and under the batch methods (Sandblaster, synchronous SGD);
- `evaluator`: the loss on held-out data, with fetched parameters;
- `director`: what all coordinators do alike, `membership`: those of the batch methods;
  `downpour`, `sync`, `sandblaster`: what each does alone; `audience`: whom they tell of the run.
"""
