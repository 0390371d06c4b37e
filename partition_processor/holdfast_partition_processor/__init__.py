"""The processor of one partition: turns its log into tables, and the tables' changes into work for the outside world.

Theory of operation
===================

::

    commands ──▶ log ──▶ apply(index, batch) ──▶ rows (every replica)
        ▲                        └─────────────▶ actions (carried out by the leader only)
        └── clients, endpoints, timers, other partitions: whatever comes of the actions

`state_machine.StateMachine.apply` is a pure function of the log: it reads no clock (the time stands in the batch), no
randomness, no socket. The same log gives the same rows everywhere, so a follower is a leader that throws its actions
away. What `apply` promises:

1. It is total. No batch that can be decoded makes it raise; what makes no sense is ignored or refused with words.
2. Each accepted message is applied once: by id (calls), by attempt (effects), by row (timers), by sequence (messages
   of other partitions).
3. Everything that must happen later stands in a row: RUNNING, TIMERS, OUTBOX. An action that is lost costs time only.
4. At most one exclusive handler holds a key of a virtual object, from its first attempt to its result.

What the caller must do, in this order:

1. Hand over each committed entry once, in order, and remember the index with the rows (`store`).
2. Carry out the actions of an entry only while leading, after the entry was applied, in their order.
3. On becoming leader, when the first entry of the own term is applied: derive from RUNNING, TIMERS and OUTBOX what
   earlier leaders owe the world (`leadership`).
4. Check what endpoints send (`frame_validation`) and look up whom they call (`catalog`) before proposing it.

Where to read on: `command` is all that may stand in the log, `action` all that comes out, `tables` all that is stored,
`invocation` the life of one invocation as a picture, and `entries` what each journal command does. The core (imports no
clock, file, socket or thread) is what `state_machine` reaches; the shell around it is processor, leadership, invoker,
timers, outbox and store.
"""
