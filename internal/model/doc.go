// Model explores the lock's protocol in every order in which things can happen: explicit-state model checking, as spin and TLC do it. It is a model beside
// the code, not the code: a state is a few small numbers, and a move is what one process, one server, one message or the
// clock does next. All states that can be reached within the bounds are visited, breadth first, so a counterexample is a shortest one.
//
// There are two models. In queue*.go one key has a queue beside it, on which the lock is passed on directly (queue.go, queuescript.go, wait.go of the
// root); in majority*.go three keys are on servers of their own (claim.go, leftover.go, restart.go). Both extend and release (extend.go, release.go).
//
// Requests and answers may be late for as long as they like, come in any order, or be lost, in which case the command may have run. Processes crash and
// servers lose their data. Clocks drift by the margin. Time is in ticks and counted down, so runs are of any length; what is bounded is said in scenario.go.
//
// # Handing over to one that may be stopped
//
// A process may be stopped at any moment, for as long as it likes, as SIGSTOP or a silent network
// does it. No server can tell: messages to it are accepted, and wait. So a release may pass the lock
// on to a waiter that does nothing with it. This is safe, whenever that waiter goes on:
//
//   - Nobody else can have the lock while its key lives. It is held by one that does not know.
//   - The message that waited for it names the epoch of its claim. Its trust counts from when that
//     claim was sent, and so is over before the key runs out, by the margin. A message that is too
//     old makes it look, and no more. A claim that it makes again has another epoch, so that an old
//     message is never taken for a new one.
//   - A holder that was stopped has a timer of its own, by which its context ends in time. It must
//     look at its context before it acts, which is what the guarantee asks of it.
//
// It costs the rest of that key's life, and without more the same again for each place in the
// queue whose process is stopped or dead. So there is the roll call. A key that ran out though
// others waited tells that a place was worth nothing, and so all are in doubt. The claim that
// takes such a key removes all places, and tells each process to look. Those that live claim
// again, and stand in the queue; the others are gone. So all of them together cost one validity,
// however many they are: once the first key has run out, the only places are of those that have
// been alive since. That is liveness in rule.go.
//
// The roll call decides nothing about the lock. Keys alone say who holds it, and a place that was
// removed is merely not chosen. A handoff that was made before is a fact about the key, and its
// message is judged by its epoch as always. A process that did not hear that its place was removed
// has its timer. A key that was left free on purpose says nothing about places, so a mark keeps
// the roll from being called; without the mark it would cost claims, and no more.
//
// Three processes leave room for two places of stopped ones and one that waits, and without the
// roll call these cost two validities. Four processes, three of them stopped, were tried once: with
// the roll call they cost one, too, in 11 million states.
//
// # Properties
//
// What has to hold is said at each property in rule.go. Progress is looked for from every state, in the graph of those moves alone that come about when faults
// have stopped (progress.go). The rules of the design are in the code where trust is computed (trustUntil in holding.go, rule 1), where a context ends
// before its release is sent (release.go, rule 2), where a waiter has its timer (awaitPass in queue.go, rule 3), and where remains are swept
// (leftover.go, rule 4). Each can be left out, and then a property breaks.
//
// # Limits
//
// Not modelled: servers' wall clocks that jump, keys taken by force, lines within a process and handing on there, the ranks
// that waiters keep when the roll is called (order is that of arrival, and no property depends on it), holders that do not know of
// the queue, fencing, replicas, and more than one attempt of a process at a time. A claim that is asked again keeps its owner value; of two abandoned
// requests of one process one is lost. A release looks for all old entries of its own in the queue, the code's for those of claims that had no answer lately (mostStrays in queue.go).
package main
