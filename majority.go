package ctxlock

import (
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
}

// onMajority sends on all lanes at once, and returns when all have answered or when a majority of the keys has, without an error, and the others
// have had a little longer: a node that does not answer should not hold up what is decided without it. Ops without an answer then have errNotYet.
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
	for _, indexes := range groups {
		asked := pick(ops, indexes)
		for _, i := range indexes {
			ops[i].Answer = store.Answer{Err: errNotYet, Unknown: true}
		}
		k.work.Go(func() { // the caller has a place in work
			r.send(asked)
			p.book(asked, indexes)
		})
	}
	p.wait(k.majority, max(leastGrace, k.patience.trips(2)))
}

// poll is one such request.
type poll struct {
	request majorityRequest
	news    chan struct{} // of one: an answer was booked

	mu   sync.Mutex
	ops  []store.Op // nil once nobody waits for answers any more
	good int        // keys that were answered without an error
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
			if answered[j].Err == nil {
				p.good++
			}
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
func (p *poll) wait(majority int, grace time.Duration) {
	var over <-chan time.Time
	for {
		p.mu.Lock()
		if p.left == 0 {
			p.mu.Unlock()
			return
		}
		if p.good >= majority && over == nil {
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
