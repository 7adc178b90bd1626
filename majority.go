package ctxlock

import (
	"slices"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// leastGrace is how long those that are left may take at the least when a majority has answered.
const leastGrace = 10 * time.Millisecond

// majorityRequest is a request for all keys of a lock that a majority decides.
type majorityRequest struct {
	send func([]store.Op) // asks for the keys of one lane
	late func([]store.Op) // gets the answers that were not waited for; may be nil
	done func()           // called when all have answered; may be nil
	// decided tells whether the answers that there are decide it; those that are missing have errNotYet.
	decided func([]store.Op) bool
}

// confirmed is decided when a majority has answered without an error.
func (k *locker) confirmed(ops []store.Op) bool {
	good := 0
	for i := range ops {
		if ops[i].Err == nil {
			good++
		}
	}
	return good >= k.majority
}

// agreed is decided, for the keys of one name after those of another, when it is certain for each whether a majority of its keys has the
// same holder.
func (k *locker) agreed(ops []store.Op) bool {
	for keys := range slices.Chunk(ops, k.keys()) {
		if !k.nameAgreed(keys) {
			return false
		}
	}
	return true
}

func (k *locker) nameAgreed(keys []store.Op) bool {
	open, most := 0, 0
	for i := range keys {
		same := 0
		for j := range keys {
			if keys[i].Err == nil && keys[i].Holder != "" && keys[j].Err == nil && keys[j].Holder == keys[i].Holder {
				same++
			}
		}
		if most = max(most, same); keys[i].Err == errNotYet {
			open++
		}
	}
	return most >= k.majority || most+open < k.majority
}

// onMajority sends on all lanes at once, and returns when all have answered, or when it is decided and the others have had a little
// longer: a node that does not answer should not hold up what is decided without it. Ops without an answer then have errNotYet.
func (k *locker) onMajority(ops []store.Op, r majorityRequest) {
	if r.done == nil {
		r.done = func() {}
	}
	groups := byLane(k.store, ops)
	if groups == nil {
		r.send(ops)
		r.done()
		return
	}
	p := poll{ops: ops, request: r, left: len(groups), news: make(chan struct{}, 1)}
	requests := make([][]store.Op, len(groups))
	for g, indexes := range groups {
		requests[g] = pick(ops, indexes)
	}
	for i := range ops {
		ops[i].Answer = store.Answer{Err: errNotYet, Unknown: true}
	}
	for g, indexes := range groups {
		asked := requests[g]
		k.work.Go(func() { // the caller has a place in work
			r.send(asked)
			p.book(asked, indexes)
		})
	}
	p.wait(max(leastGrace, k.patience.trips(2)))
}

// poll is one such request.
type poll struct {
	request majorityRequest
	news    chan struct{} // of one: an answer was booked

	mu   sync.Mutex
	ops  []store.Op // nil once nobody waits for answers any more
	left int        // lanes that have not answered
}

// book takes the answers of one lane.
func (p *poll) book(answered []store.Op, indexes []int) {
	p.mu.Lock()
	p.left--
	last, late := p.left == 0, p.ops == nil
	if !late {
		for j, i := range indexes {
			p.ops[i] = answered[j]
		}
	}
	p.mu.Unlock()
	if late && p.request.late != nil {
		p.request.late(answered)
	}
	if last {
		p.request.done()
	}
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// wait returns when it is decided.
func (p *poll) wait(grace time.Duration) {
	var over <-chan time.Time
	for {
		p.mu.Lock()
		if p.left == 0 {
			p.mu.Unlock()
			return
		}
		if over == nil && p.request.decided(p.ops) {
			timer := time.NewTimer(grace)
			defer timer.Stop()
			over = timer.C
		}
		p.mu.Unlock()
		select {
		case <-p.news:
		case <-over:
			p.mu.Lock()
			p.ops = nil
			p.mu.Unlock()
			return
		}
	}
}
