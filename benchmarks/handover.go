package main

import (
	"runtime"
	"time"
)

// changeOfHands measures the time from cancel() of one locker to the return of another's Lock that waits, there and back, for as long as a
// round takes.
func changeOfHands(who Contender, on bench, name string) (*round, error) {
	lockers, err := openAll(who, on.site, 2)
	if err != nil {
		return nil, err
	}
	defer closeAll(lockers)
	runtime.GC()
	unlock, err := lockers[0].Lock(background, name)
	if err != nil {
		return nil, err
	}
	r := &round{ops: []int{0}, handoffs: -1, noRate: true}
	before := on.meter.read()
	for turn := 1; time.Since(before.at) < on.warm+on.length; turn++ {
		next := receive(lockers[turn%2], name)
		time.Sleep(5*on.site.roundTrip + 3*time.Millisecond) // whoever wants to wait is waiting now
		start := time.Now()
		unlock()
		select {
		case n := <-next:
			if n.err != nil {
				return nil, n.err
			}
			r.waits.add(n.at.Sub(start))
			r.ops[0]++
			unlock = n.unlock
		case <-time.After(grace):
			r.seen.stuck++
			return r, nil
		}
	}
	unlock()
	r.usage = on.meter.between(before, on.meter.read())
	return r, nil
}

type received struct {
	unlock func()
	at     time.Time
	err    error
}

// receive waits for the lock in the background.
func receive(l Locker, name string) <-chan received {
	next := make(chan received, 1)
	go func() {
		unlock, err := l.Lock(background, name)
		next <- received{unlock, time.Now(), err}
	}()
	return next
}
