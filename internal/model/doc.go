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
// What has to hold is said at each property in rule.go. Progress is looked for from every state, in the graph of those moves alone that come about when faults
// have stopped (progress.go). The rules of the design are in the code where trust is computed (trustUntil in holding.go, rule 1), where a context ends
// before its release is sent (release.go, rule 2), where a waiter has its timer (awaitPass in queue.go, rule 3), and where remains are swept
// (leftover.go, rule 4). Each can be left out, and then a property breaks.
//
// Not modelled: servers' wall clocks that jump, keys taken by force, lines within a process and handing on there, holders that do not know of
// the queue, fencing, replicas, and more than one attempt of a process at a time. A claim that is asked again keeps its owner value; of two abandoned
// requests of one process one is lost. A release looks for all old entries of its own in the queue, the code's for those of claims that had no answer lately (mostStrays in queue.go).
package main
