"""The actors of a run with replicas: what computes and what says what to whom, above the pure
state machines of `dbgraph.ps` and `dbgraph.coordinate`. No sockets, no threads, no clock.

- `shard`: one shard of the parameter server;
- `partition`: one partition's machine; `member`: what the actor around it does under every
  algorithm, `replica` under Downpour SGD, `gradients` under the batch methods (Sandblaster,
  synchronous SGD); `inquiry`: with which parameters a loss that is no number was computed;
- `evaluator`: the loss on held-out data, with fetched parameters;
- `director`: what all coordinators do alike, `membership`: those of the batch methods;
  `downpour`, `sync`, `sandblaster`: what each does alone; `audience`: whom they tell of the run.
"""
