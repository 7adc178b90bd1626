package faulty

import (
	"fmt"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// fate is what happens to one request, or to one event.
type fate struct {
	lane    int
	refused bool
	lost    bool          // it never arrives
	mute    bool          // its reply never arrives
	cut     bool          // in place of the reply comes an error
	stalled bool          // the link was stopped when it was sent
	before  time.Duration // how late it arrives
	after   time.Duration // how late its reply arrives
	again   time.Duration // how much later it arrives a second time; 0 means never
	forged  *store.Event  // an event that nothing is the reason for
}

// clean tells that nothing happens to a request.
func (f fate) clean() bool {
	return !f.lost && !f.mute && !f.cut && !f.stalled && f.before == 0 && f.after == 0 && f.again == 0
}

// fate draws what happens to a request. It draws everything each time, whether it is used or not, so that how many numbers a
// request takes from the sequence does not depend on what came out.
func (s *Store) fate(lane int) fate {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.config
	f := fate{lane: lane, stalled: s.stall(lane) != nil}
	f.refused = s.chance(c.Refuse)
	f.lost = s.chance(c.LoseRequest)
	f.mute = s.chance(c.LoseReply)
	cutRequest, cutReply := s.chance(c.CutRequest), s.chance(c.CutReply)
	f.before = s.delay(c.DelayRequest)
	f.after = s.delay(c.DelayReply)
	f.again = s.delay(c.Double)
	if forged, event := s.chance(c.ForgeEvent), s.forgery(); forged {
		f.forged = &event
	}
	f.lost = f.lost || cutRequest
	f.cut = cutRequest || cutReply
	return f
}

func (s *Store) eventFate() fate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fate{
		lost:   s.chance(s.config.LoseEvent),
		before: s.delay(s.config.DelayEvent),
		again:  s.delay(s.config.DoubleEvent),
	}
}

func (s *Store) splits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.chance(s.config.Split)
}

// chance is true with probability p. Under mu.
func (s *Store) chance(p float64) bool { return s.random.Float64() < p }

// delay is positive with probability p: mostly short, since a short delay reorders more than a long one, and at times up to
// MaxDelay. Under mu.
func (s *Store) delay(p float64) time.Duration {
	delayed, share, short := s.chance(p), s.random.Float64(), s.chance(0.7)
	if !delayed {
		return 0
	}
	if short {
		share *= share * share
	}
	return 1 + time.Duration(share*float64(s.config.MaxDelay))
}

// forgery makes up an event. Under mu.
func (s *Store) forgery() store.Event {
	kind, pick := s.random.IntN(8), s.random.IntN(len(s.known))
	switch {
	case kind == 0:
		return store.Event{All: true}
	case kind == 1:
		return store.Event{Key: fmt.Sprintf("%c:%d", pick, pick)}
	default:
		return store.Event{Key: s.known[pick]}
	}
}

func (s *Store) forge(f fate) {
	if f.forged != nil {
		s.deliver(*f.forged, 1)
	}
}

// learn remembers keys, for forgery.
func (s *Store) learn(ops []store.Op) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range ops[:min(len(ops), 4)] {
		s.known[s.used%len(s.known)] = ops[i].Key
		s.used++
	}
}
