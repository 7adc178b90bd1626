package ctxlock

import (
	"context"
	"errors"
	"time"

	"github.com/ctxlock/ctxlock/internal/jitter"
	"github.com/ctxlock/ctxlock/store"
)

// A wait has three rooms: the line of this process (line.go), the queue on the server (queue.go), and, where there is no queue, this one:
// the one who speaks for the line watches the keys and claims whenever there is reason to.
//
// What the speaker waits for is a hint: an event about a key, a local release, or a timer. A hint makes it claim again;
// only the answer to a claim decides. It is never without a timer, since events may be late or missing.

const (
	// slackFrom and slackTo are how much after a key should have run out a waiter looks. The server needs a moment, and those who
	// wait for the same key should not all come at once.
	slackFrom, slackTo = 20 * time.Millisecond, 150 * time.Millisecond
	// foreverLook is how often a waiter looks at least at a key that does not run out, or not for long.
	foreverLook = time.Second
	// provenAfter is how long a holder must have been watched at least to prove that it extends.
	provenAfter = 20 * time.Millisecond
	// hasty is how soon after a claim that failed another one is suspicious.
	hasty = 100 * time.Millisecond
)

// wait takes a lock, waiting for it. Whoever finds nobody in line may try at once, and whoever may be content with one attempt does.
func (k *locker) wait(ctx context.Context, name string, t *terms) (*holding, error) {
	pacing := pacing{policy: t.Retry, k: k, began: k.now(), at: never}
	var last error
	var first streak
	var bare bool
	if !k.contended(name) || t.Retry != nil || t.From != "" || t.Replicas > 0 { // in line it would be in others' way while it asks replicas
		l, back := k.claimClean(ctx, name, manner{terms: t, waits: true})
		if l != nil {
			return l, nil
		}
		last, bare = back.err, back.unacknowledged()
		first.note(last, pacing.began)
		if !k.worthWaiting(ctx, last) || !pacing.next(last) {
			return nil, k.lastWord(ctx, name, last)
		}
	}
	s := &speaker{
		k: k, name: name, terms: t, last: last, bare: bare, streak: first, pacing: pacing,
		faults: afterFault, splits: afterSplit, polls: polling, idle: afterNothing,
	}
	for {
		stretch := s.standInLine
		if s.sleepThrough || s.bare {
			stretch = s.sleepAndTry
		}
		if l, err := stretch(ctx); err != errAgain {
			return l, err
		}
	}
}

// worthWaiting tells whether a failed attempt is one that waiting can mend.
func (k *locker) worthWaiting(ctx context.Context, err error) bool {
	if _, usual := err.(*heldByAnother); usual {
		return ctx.Err() == nil && k.life.Err() == nil
	}
	return ctx.Err() == nil && k.life.Err() == nil && !store.IsPermanent(err)
}

// lastWord is the error that a wait ends with; last is that of its last attempt.
func (k *locker) lastWord(ctx context.Context, name string, last error) error {
	switch {
	case k.life.Err() != nil:
		return ErrLockerClosed
	case ctx.Err() != nil && !errors.Is(last, ctx.Err()):
		return ctxError(ctx, name, last)
	}
	return last
}

// speaker is the waiter that speaks to the server, and what it knows.
type speaker struct {
	*waiter
	place    *place // in the queue on the server, or nil
	rank     int64  // where the last place stood, if that was given up for want of an answer; else zero
	heirUsed bool   // the waiter's holding has stood in the queue
	k        *locker
	name     string
	terms    *terms
	last     error // what the last attempt ended with
	bare     bool  // that was for want of replicas
	streak   streak
	pacing

	// Of the key that it waits for:
	key    string
	holder string        // its owner value when it was last claimed
	life   time.Duration // the longest TTL seen of it
	ttl    time.Duration // what it had left when that holder was seen first
	since  time.Duration // when that was
	runsAt time.Duration // when it runs out unless it is extended
	lookAt time.Duration // when to look whether it has

	// A holder that extends touches its key again and again. Once its key was seen with more time than it can have had left, it is
	// known to extend, and then it deletes the wake key on release: from there on the speaker watches that key, and is quiet about
	// touches of the others.
	quiet bool
	asked bool          // this speaker has asked for the wake key
	armed time.Duration // until when it exists

	faults, splits, polls backoff
	faultyAt              time.Duration // when to ask again for keys that could not be asked for

	// Hints that lead nowhere, and come fast, are answered ever more slowly: somebody touches the key in a loop, or forges.
	claimed time.Duration // when it claimed last
	idle    backoff
}

// errAgain tells that a stretch of a wait is over and the wait is not.
var errAgain = errors.New("again")

// sleepAndTry is for a policy that nothing is to wake, and for want of replicas, of which nothing tells: it sleeps outside the line, where it
// would be in the way of those behind it, and then makes one attempt.
func (s *speaker) sleepAndTry(ctx context.Context) (*holding, error) {
	pause := never
	if s.bare && !s.sleepThrough {
		pause = s.faults.next()
	}
	if !s.sleep(ctx, s.left(pause), nil) {
		return nil, s.lastWord(ctx)
	}
	s.claimed = s.k.now()
	l, back := s.k.claim(ctx, s.name, manner{terms: s.terms, waits: true})
	if l != nil {
		return l, nil
	}
	s.bare = back.unacknowledged()
	return nil, s.failed(ctx, back.err)
}

// failed notes what an attempt failed with, and gives the error that the wait ends with, or errAgain.
func (s *speaker) failed(ctx context.Context, err error) error {
	if cut := ctx.Err() != nil; !cut || s.last == nil { // else it was cut short, and the one before it says more
		s.last = err
		if !cut { // that it was concerns nobody else
			s.note(err)
		}
	}
	if !s.k.worthWaiting(ctx, err) || !s.goOn(s.last) {
		return s.lastWord(ctx)
	}
	return errAgain
}

// standInLine waits in line, for as long as the policy, if there is one, is to be woken. The place in line is given up in any case: a
// policy, or a ValueFunc, may panic.
func (s *speaker) standInLine(ctx context.Context) (l *holding, err error) {
	if s.waiter, err = s.k.join(s.name, s.terms); err != nil {
		return nil, err
	}
	s.placed, s.heirUsed = true, false
	defer func() {
		if s.placed {
			s.placed = false
			s.k.work.Done()
		}
	}()
	defer func() {
		empty := s.k.leaveLine(s.name, s.waiter, l)
		if l == nil {
			s.leaveQueue()
			if empty {
				s.disarm()
			}
		}
	}()
	s.k.makeHeir(ctx, s.name, s.waiter, s.terms)
	if l, err = s.awaitTurn(ctx); l != nil || err != nil {
		return l, err
	}
	return s.speak(ctx)
}

// speak claims, and waits for a reason to, by turns.
func (s *speaker) speak(ctx context.Context) (*holding, error) {
	arm := false
	for {
		s.forget()
		s.claimed = s.k.now()
		l, back, err := s.attempt(ctx, arm)
		if l != nil || err != nil {
			return l, err
		}
		s.bare = back.unacknowledged()
		if err := s.failed(ctx, back.err); err != errAgain || s.sleepThrough || s.bare {
			return nil, err
		}
		var more bool
		if s.place != nil {
			l, more = s.awaitPass(ctx, back)
			if l != nil {
				return l, nil
			}
			arm = false
		} else if more, arm = s.awaitHint(ctx, back, arm); more && arm {
			continue // and claim at once: what happened since the last claim went unheard
		}
		if !more || !s.slowDown(ctx) {
			return nil, s.lastWord(ctx)
		}
	}
}

// attempt claims once, in the queue if there is one.
func (s *speaker) attempt(ctx context.Context, arm bool) (*holding, setback, error) {
	if s.queues() && !arm {
		if l, back, err := s.claimPlace(ctx); l != nil || err != nil || !s.withoutQueue(ctx, back) {
			return l, back, err
		}
	}
	s.leaveQueue()
	s.asked = s.asked || arm
	owner, err := s.owner()
	if err != nil {
		return nil, setback{}, err
	}
	l, back := s.k.claim(ctx, s.name, manner{terms: s.terms, owner: owner, arm: arm, waits: true})
	if l != nil {
		s.handOver(l)
	}
	return l, back, nil
}

// othersHaveIt notes that somebody else has had a turn.
func (s *speaker) othersHaveIt(back setback) {
	s.k.mu.Lock()
	defer s.k.mu.Unlock()
	if note := s.k.contention[s.name]; note != nil && back.key != "" && !s.k.mayBeOwn(back.holder) {
		s.k.othersTurn(note)
	}
}

// awaitHint waits, after a claim without a queue, until another is worth while. more is false if the wait is over; arm tells to ask for the
// wake key.
func (s *speaker) awaitHint(ctx context.Context, back setback, armed bool) (more, arm bool) {
	if armed && back.armed > 0 {
		s.armed = s.k.now() + min(back.armed, store.WakeLife) // a foreign one may live for ever
	}
	s.othersHaveIt(back)
	again := s.extends(back)
	s.quiet = again && armed && s.armed > s.k.now()
	if again && !armed {
		return true, true
	}
	return s.pause(ctx, back)
}

// owner asks for the owner value of the next attempt.
func (s *speaker) owner() (owner string, err error) {
	if s.terms.ValueFunc != nil && !s.outside(func() { owner, err = s.terms.owner() }) {
		err = ErrLockerClosed
	}
	return owner, err
}

// awaitTurn waits to become the speaker, or to get the lock from another of this process. Its error is that of the wait, or errAgain.
// Until then others of this process claim the name, which counts as attempts that fail.
func (s *speaker) awaitTurn(ctx context.Context) (*holding, error) {
	select {
	case <-s.called:
		return s.k.wonBy(s.waiter), nil
	default:
	}
	if s.policy == nil {
		return s.awaitCall(ctx, nil)
	}
	timer := time.NewTimer(s.left(never))
	defer timer.Stop()
	for {
		l, err := s.awaitCall(ctx, timer.C)
		if err != errPause {
			return l, err
		}
		if !s.goOn(s.last) {
			return nil, s.lastWord(ctx)
		}
		if s.sleepThrough {
			return nil, errAgain
		}
		timer.Reset(s.left(never))
	}
}

// errPause tells that a pause of the policy is over.
var errPause = errors.New("the pause is over")

// awaitCall waits to become the speaker, or to get the lock, or for the pause to be over.
func (s *speaker) awaitCall(ctx context.Context, pause <-chan time.Time) (*holding, error) {
	select {
	case <-s.called:
		return s.k.wonBy(s.waiter), nil
	case <-pause:
		return nil, errPause
	case <-ctx.Done():
		return nil, s.lastWord(ctx)
	case <-s.k.life.Done():
		return nil, ErrLockerClosed
	}
}

// extends tells whether the holder that was met is one that is known to extend and to delete the wake key then. That it was
// there before and after a touch proves nothing: hints come late, and the touch may have been its own taking of the lock.
func (s *speaker) extends(back setback) bool {
	now := s.k.now()
	if back.key == "" || back.key != s.key || back.holder != s.holder {
		s.key, s.holder, s.ttl, s.since, s.quiet = back.key, back.holder, back.ttl, now, false
		return false
	}
	// On independent nodes the wake key is on one of them, which may be in trouble while the others hand the lock over.
	if !ours(back.holder) || !s.k.store.Watches() || s.k.names != nil {
		return false
	}
	// Between two looks a round trip apart there is nothing to tell.
	passed := now - s.since
	return s.quiet || passed > max(provenAfter, s.k.patience.trips(4)) && back.ttl > s.ttl-passed/2
}

// forget drops hints from before a claim: the claim answers them.
func (s *speaker) forget() {
	for {
		select {
		case <-s.woken:
		case <-s.touched:
		default:
			return
		}
	}
}

// handOver leaves it to the new lock to delete the wake key that this speaker has asked for.
func (s *speaker) handOver(l *holding) {
	if s.asked {
		s.k.mu.Lock()
		l.wakes = true
		s.k.mu.Unlock()
	}
}

// disarm deletes the wake key when the last waiter of this process leaves without the lock. Waiters elsewhere look, and ask for
// it again.
func (s *speaker) disarm() {
	if s.asked {
		// An owner value that no key has: only the wake key goes.
		nobody := store.Op{Key: keyOf(s.k.prefix, 0, s.name), Owner: newID(s.k.majority), Wake: wakeKeyOf(s.k.prefix, s.name)}
		s.k.leave(s.name, []store.Op{nobody}, s.k.now()+store.WakeLife)
	}
}

// pause waits until another claim is worth while. more is false if the wait is over; arm tells to ask for the wake key.
func (s *speaker) pause(ctx context.Context, back setback) (more, arm bool) {
	switch {
	case back.split:
		return s.sleep(ctx, s.splits.next(), nil), false
	case back.key == "":
		return s.sleep(ctx, s.left(s.faults.next()), s.woken), false
	}
	// Where some keys could not be asked for, the lock may be had before the one that was met is free.
	s.faultyAt = never
	if back.faulty {
		s.faultyAt = s.k.now() + s.faults.next()
	} else {
		s.faults.reset()
	}
	s.splits.reset()
	s.life = 0
	if !s.k.store.Watches() {
		s.sawTTL(back.ttl)
		return s.sleep(ctx, s.left(min(s.polls.next(), s.lookAt-s.k.now())), s.woken), false
	}
	s.sawTTL(back.ttl)
	return s.listen(ctx)
}

// slowDown spaces out claims that follow each other too fast. It reports false if the wait as a whole is over.
func (s *speaker) slowDown(ctx context.Context) bool {
	if s.k.now()-s.claimed > hasty {
		s.idle.reset()
		return true
	}
	if s.place != nil && s.place.turned { // others take turns, and claim at once
		s.idle.reset()
		return true
	}
	pause := s.idle.next()
	if passesOn(s.holder) { // it is seldom free then, and not for long
		pause = min(pause, leastYield/2)
	}
	return s.sleep(ctx, pause, nil)
}

// sleep waits for a time, or for a hint if hint is not nil. It reports false if the wait as a whole is over.
func (s *speaker) sleep(ctx context.Context, d time.Duration, hint <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-hint:
		return true
	case <-ctx.Done():
	case <-s.k.life.Done():
	}
	return false
}

// listen waits for a hint that the lock may be free, and looks by itself when the key should have run out.
func (s *speaker) listen(ctx context.Context) (more, arm bool) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		at := min(s.lookAt, s.at, s.faultyAt)
		if s.quiet {
			at = min(at, s.armed)
		}
		timer.Reset(at - s.k.now())
		select {
		case <-ctx.Done():
			return false, false
		case <-s.k.life.Done():
			return false, false
		case <-s.woken:
			return true, false
		case <-s.touched:
			if !s.quiet {
				return true, false
			}
			s.sawTouch()
		case <-timer.C:
			switch now := s.k.now(); {
			case now >= min(s.at, s.faultyAt):
				return true, false
			case s.quiet && now >= s.armed:
				return true, true
			}
			if !s.stillHeld(ctx) {
				return true, false
			}
		}
	}
}

// sawTTL sets the time of the next look from what the key has left.
func (s *speaker) sawTTL(ttl time.Duration) {
	ttl = min(ttl, max(foreverLook, s.k.terms.validity)) // a clock that was set back makes it seem to live for hours
	s.life = max(s.life, ttl)
	s.runsAt = s.k.now() + ttl
	s.lookAt = s.runsAt + jitter.Between(slackFrom, slackTo)
}

// sawTouch puts off the next look: a holder that knows of its waiters has extended the key, so it lives at least as long from now as it did
// when it was last seen. Unless it may have run out.
func (s *speaker) sawTouch() {
	if now := s.k.now(); s.life > 0 && now < s.runsAt-slackFrom {
		s.sawTTL(s.life)
	} else {
		s.lookAt = now
	}
}

// stillHeld looks at the key that the speaker waits for. An error counts as "no", so that the claim that follows finds it.
func (s *speaker) stillHeld(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, s.k.patience.now())
	defer cancel()
	defer context.AfterFunc(s.k.life, cancel)()
	ops := []store.Op{{Key: s.key}}
	s.k.store.Look(ctx, ops)
	if ops[0].Err != nil || ops[0].Holder == "" {
		return false
	}
	s.sawTTL(ops[0].TTL)
	return true
}
