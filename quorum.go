package ctxlock

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ctxlock/ctxlock/store"
)

// Outcome is what came of asking one node for a lock.
type Outcome string

const (
	// NodeGranted: the node gave its key, which was given back; or it confirmed what it was asked to do.
	NodeGranted Outcome = "granted"
	// NodeAnswered: the node was connected to, or could be read; or it has no key of the lock.
	NodeAnswered Outcome = "answered"
	// NodeTaken: another's owner value was seen on its key.
	NodeTaken Outcome = "taken"
	// NodeFailed: the node refused, could not be reached, or broke off.
	NodeFailed Outcome = "failed"
	// NodeLate: the node did not answer in time.
	NodeLate Outcome = "late"
	// NodeUnheard: it was decided before the node answered.
	NodeUnheard Outcome = "unheard"
)

// NodeError is what one node said.
type NodeError struct {
	// Node is its address, as it was given.
	Node string
	// Outcome is what came of asking it.
	Outcome Outcome
	// Holder is the owner value of whoever has the key there, if it was taken.
	Holder string
	// Err is what it failed with, or that it was late or unheard; nil if it granted the key or somebody else has it.
	Err error
}

// Error says what the node said.
func (e NodeError) Error() string {
	switch e.Outcome {
	case NodeTaken:
		return fmt.Sprintf("%s: taken by %s", e.Node, quote(e.Holder))
	case NodeGranted, NodeAnswered, NodeUnheard:
		return fmt.Sprintf("%s: %s", e.Node, e.Outcome)
	}
	return fmt.Sprintf("%s: %s: %v", e.Node, e.Outcome, e.Err)
}

// Unwrap gives Err.
func (e NodeError) Unwrap() error { return e.Err }

// QuorumError tells that no majority of independent nodes (NewRedlock) was to be had, for a lock, for extending it, or to ask about it. errors.Is finds ErrNotLocked in it if any node has
// the lock for another, and the errors of those that failed.
type QuorumError struct {
	// Name is the name of the lock; empty if it was about connecting.
	Name string
	// Needed is how many nodes make a majority.
	Needed int
	// Nodes says what each node said, in the order in which they were given.
	Nodes []NodeError
}

// count tells how many nodes had the outcome.
func (e *QuorumError) count(o Outcome) (n int) {
	for i := range e.Nodes {
		if e.Nodes[i].Outcome == o {
			n++
		}
	}
	return n
}

// ToOthers tells whether those that others have alone made a majority impossible.
func (e *QuorumError) ToOthers() bool { return e.count(NodeTaken) > len(e.Nodes)-e.Needed }

// ToFailures tells whether the nodes that failed or were late alone did.
func (e *QuorumError) ToFailures() bool {
	return e.count(NodeFailed)+e.count(NodeLate) > len(e.Nodes)-e.Needed
}

// Error says what each node said, and to what the majority was lost.
func (e *QuorumError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no majority of %d of %d nodes, lost to %s", e.Needed, len(e.Nodes), e.lostTo())
	for i := range e.Nodes {
		fmt.Fprintf(&b, "; %v", e.Nodes[i])
	}
	return b.String()
}

func (e *QuorumError) lostTo() string {
	switch {
	case e.ToOthers():
		return "others"
	case e.ToFailures():
		return "failures"
	case e.count(NodeTaken) > 0 && e.count(NodeFailed)+e.count(NodeLate) > 0:
		return "others and failures"
	}
	return "several who wanted it at once"
}

// Unwrap gives ErrNotLocked, if any node has the lock for another, and the errors of the nodes.
func (e *QuorumError) Unwrap() (all []error) {
	if e.count(NodeTaken) > 0 {
		all = append(all, ErrNotLocked)
	}
	for i := range e.Nodes {
		if e.Nodes[i].Err != nil {
			all = append(all, e.Nodes[i].Err)
		}
	}
	return all
}

// Permanent tells whether waiting cannot mend it: so many nodes have failed for good that there is no majority among the rest.
func (e *QuorumError) Permanent() bool {
	forGood := 0
	for i := range e.Nodes {
		if store.IsPermanent(e.Nodes[i].Err) {
			forGood++
		}
	}
	return forGood > len(e.Nodes)-e.Needed
}

// naming is a store whose keys live on nodes that have names.
type naming interface{ NodeOf(key string) string }

// quorumError gives the error of a claim that failed, node by node, where nodes have names. Under k.mu.
func (k *locker) quorumError(l *holding, ops []store.Op) error {
	e := &QuorumError{Name: l.name, Needed: k.majority}
	for i := range ops {
		op := &ops[i]
		said := NodeError{Node: k.names.NodeOf(op.Key), Outcome: NodeGranted}
		switch {
		case op.Err != nil && (errors.Is(op.Err, errNoAnswer) || op.Unknown && isContextError(op.Err)):
			said.Outcome, said.Err = NodeLate, errNoAnswer
		case op.Err != nil:
			said.Outcome, said.Err = NodeFailed, op.Err
		case op.Holder == l.owner:
		case op.Holder == "" && l.keys[i].standing == unheard && k.now() >= l.ends:
			said.Outcome, said.Err = NodeLate, errNoAnswer
		case op.Holder == "" && l.keys[i].standing == unheard:
			said.Outcome, said.Err = NodeUnheard, errNotYet
		case op.Holder == "":
			said.Outcome, said.Err = NodeFailed, errVanished
		case k.isRemains(op.Holder):
			said.Outcome, said.Err = NodeFailed, errOwnRemains
		default:
			said.Outcome = NodeTaken
			said.Holder, _ = splitOwner(op.Holder)
		}
		e.Nodes = append(e.Nodes, said)
	}
	return e
}

// noteFault notes what a request to extend key i failed with, for faultsOfNodes. Under k.mu.
func (l *holding) noteFault(i int, err error) {
	if err == nil && (l.audience == nil || l.audience.faults == nil) {
		return
	}
	a := l.heard()
	if a.faults == nil {
		a.faults = make([]error, len(l.keys))
	}
	a.faults[i] = err
}

// faultsOfNodes is what the nodes said to the last round of extensions. Under k.mu.
func (l *holding) faultsOfNodes() error {
	e := &QuorumError{Name: l.name, Needed: l.k.majority}
	for i := range l.keys {
		said := NodeError{Node: l.k.names.NodeOf(l.keys[i].name), Outcome: NodeGranted}
		switch {
		case l.audience != nil && l.audience.faults != nil && l.audience.faults[i] != nil:
			said.fail(l.audience.faults[i])
		case l.keys[i].standing == taken:
			said.Outcome = NodeTaken
		case l.keys[i].standing == gone:
			said.Outcome = NodeAnswered
		case l.keys[i].renewed != l.turn:
			said.Outcome, said.Err = NodeUnheard, errNotYet
		}
		e.Nodes = append(e.Nodes, said)
	}
	return e
}

// fail says what a node failed with.
func (e *NodeError) fail(err error) {
	e.Outcome, e.Err = NodeFailed, err
	var silent *advised
	if err == errNotYet {
		e.Outcome = NodeUnheard
	} else if errors.As(err, &silent) && isContextError(silent.err) {
		e.Outcome = NodeLate
	} else if errors.Is(err, errNoAnswer) || isContextError(err) {
		e.Outcome, e.Err = NodeLate, errNoAnswer
	}
}

// unread is the error of a question about a lock that too few keys have answered: of independent nodes, what each said; otherwise one
// of their errors.
func (k *locker) unread(name string, ops []store.Op) error {
	var fault error
	e := &QuorumError{Name: name, Needed: k.majority}
	for i := range ops {
		said := NodeError{Outcome: NodeAnswered}
		if err := ops[i].Err; err != nil {
			fault = clearer(fault, err)
			said.fail(err)
		}
		if k.names != nil {
			said.Node = k.names.NodeOf(ops[i].Key)
		}
		e.Nodes = append(e.Nodes, said)
	}
	if k.names != nil {
		return e
	}
	if isContextError(fault) {
		return errNoAnswer
	}
	return fault
}
