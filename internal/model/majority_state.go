package main

// nodes is how many servers there are, each with one of the lock's keys; two of them are a majority.
const (
	nodes = 3
	most  = 2
)

// majorityState is one state of the protocol of three keys on servers of their own.
type majorityState struct {
	faults   uint8 // how many there may still be
	attempts uint8 // how many may still begin
	nodes    [nodes]node
	procs    [processes]voter
}

// node is one server.
type node struct {
	owner uint8 // process, or nobody
	ttl   uint8 // by the node's clock
	fast  uint8 // ticks that its clock is ahead of the processes': 0 or 1
	mute  uint8 // how long it does not answer, since it has come back without its data
}

// timed tells whether the node's clock times anything.
func (n *node) timed() bool { return n.ttl > 0 || n.mute > 0 }

// voter is what is known of one process, by itself, and of its messages. Its phases are those of one that does not wait in a queue.
type voter struct {
	phase phase
	sent  uint8 // how long ago the requests under way were sent
	parts [nodes]part
}

// part is what a process has to do with one node.
type part struct {
	flow     flow
	standing standing
	given    uint8 // what the key has left, as the answer on its way has it
	left     uint8 // how long it trusts the key
	owed     bool  // the key may be its own, so it is to be given back
	stray    bool  // a claim that is not waited for any more may still come
}

// flow is the request under way that is waited for.
type flow uint8

const (
	noFlow flow = iota
	claims
	extends
	gives // its answer is on its way: the key is the process's
)

// standing is what was last heard of a key.
type standing uint8

const (
	unheard standing = iota
	mine
	gone
	taken
)

// count tells how many parts have the standing.
func (v *voter) count(s standing) (n int) {
	for i := range v.parts {
		if v.parts[i].standing == s {
			n++
		}
	}
	return n
}

// open counts the requests under way that are waited for.
func (v *voter) open() (n int) {
	for i := range v.parts {
		if v.parts[i].flow != noFlow {
			n++
		}
	}
	return n
}

// left is how long the process trusts its lock: up to then, a majority of the keys cannot have run out.
func (v *voter) left() uint8 {
	var lefts [nodes]uint8
	for i := range v.parts {
		if v.parts[i].standing == mine {
			lefts[i] = v.parts[i].left
		}
	}
	a, b, c := lefts[0], lefts[1], lefts[2]
	return max(min(a, b), min(b, c), min(a, c)) // the second greatest
}
