package ctxlock

import (
	"context"
	"errors"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// cancel is the cancel function.
func (l *holding) cancel() { _ = l.release() }

// cancelAll gives back locks that will not be handed out, all at once. It returns when that is done, or at the latest when ctx ends
// or the servers take longer than usual; then it goes on in the background.
func (k *locker) cancelAll(ctx context.Context, locks []*holding) {
	var under []*giveBack
	for _, l := range locks {
		l.finish(ErrReleased)
		if g := k.giveBack(l); g != nil { // else Close does it
			under = append(under, g)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, max(leastGrace, k.patience.trips(4)))
	defer cancel()
	awaitAll(ctx, under)
}

// giveBack is a lock that was not handed out, while it is given back. Until that is done, it is among
// the own remains: no caller has it.
type giveBack struct {
	name string
	done chan struct{} // closed when it is
}

// giveBack begins to give a lock back in the background. It gives nil once the locker is closed.
func (k *locker) giveBack(l *holding) *giveBack {
	g := &giveBack{l.name, make(chan struct{})}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.spawnLocked(func() { l.cancel(); k.gaveBack(g, l.owner) }) {
		return nil
	}
	k.givenBack[g] = struct{}{}
	k.remains[l.owner]++
	return g
}

// gaveBack books that a lock was given back.
func (k *locker) gaveBack(g *giveBack, owner string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.givenBack, g)
	k.stillToldOf(owner)
	k.notRemains(owner)
	k.kickLocked()
	close(g.done)
}

// awaitAll waits until all of some locks were given back, and reports whether they were before ctx
// ended.
func awaitAll(ctx context.Context, all []*giveBack) bool {
	for _, g := range all {
		select {
		case <-g.done:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// alreadyDone is closed.
var alreadyDone = func() chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}()

// release gives a lock back, and tells what became of that. The first call does the work; others wait for it.
func (l *holding) release() error {
	k := l.k
	l.finish(ErrReleased) // first of all: nobody may hold the lock while this context lives
	lost := l.lostCause()
	k.mu.Lock()
	if done := l.released; done != nil {
		k.mu.Unlock()
		<-done
		return ErrReleased
	}
	if lost == nil && k.handOn(l) {
		l.released = alreadyDone
		k.mu.Unlock()
		return nil
	}
	l.released = make(chan struct{})
	defer close(l.released)
	if k.ended { // Close takes the keys over, and finds them by the books
		k.mu.Unlock()
		return ErrLockerClosed
	}
	k.unlink(l) // the next in line is called when the servers have been told, or are about to be
	k.work.Add(1)
	defer k.work.Done()
	l.state = lettingGo
	l.gone = make(chan struct{})
	latest := k.now() + closeTime
	l.endBy(latest)
	yield := k.yields(l)
	ops := leaveFree(l.releaseOps(), yield)
	until, late := max(k.now()+l.validity, l.mayLive), l.lateOps()
	if l.queueing.aware { // it is passed on, so whoever comes next here stands in the queue, whichever comes first
		k.callNext(l.name)
	}
	k.mu.Unlock()
	k.letGoOf(l, ops, until)
	k.leave(l.name, append(unconfirmed(ops), late...), until)
	k.released(l)
	if yield > 0 {
		k.resume(l.name, yield)
	}
	if lost == nil {
		lost = k.lostBefore(l, ops, latest)
	}
	if untold := k.untold(l, ops, until); untold != nil {
		return errors.Join(lost, untold)
	}
	return lost
}

// leaveFree has keys left free for a while that would be passed on, unless that is zero.
func leaveFree(ops []store.Op, yield time.Duration) []store.Op {
	for i := range ops {
		if ops[i].Queue != "" && yield > 0 {
			ops[i].Free, ops[i].Yield = true, yield
		}
	}
	return ops
}

// released is for a lock of which the servers have been told.
func (k *locker) released(l *holding) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.places, l.owner)
	k.wakeLocked(l.name)
}

// letGoOf has the servers told. What they say when it was decided already is booked in the background.
func (k *locker) letGoOf(l *holding, ops []store.Op, until time.Duration) {
	if byLane(k.store, ops) == nil {
		k.release((*letting)(l), ops)
		l.timer.Stop()
		return
	}
	k.onMajority(ops, majorityRequest{
		send: func(ops []store.Op) { k.release((*letting)(l), ops) },
		late: func(ops []store.Op) { k.leave(l.name, unconfirmed(ops), until) },
		done: func() { l.timer.Stop() },

		decided: k.confirmed,
	})
}

// lostCause is the cause of the context, if that is a loss.
func (l *holding) lostCause() error {
	lost, ok := context.Cause(l.Context).(*LostError)
	if !ok {
		return nil
	}
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	if l.audience == nil || l.audience.loss != lost { // that of a lock that this one was taken under, or together with
		return nil
	}
	return lost
}

// lostBefore tells, from the answers to the release, whether the lock had been lost before without anybody knowing: too many of its
// keys were not there to delete. What became of them it asks, since that is rare, if there is time.
func (k *locker) lostBefore(l *holding, ops []store.Op, latest time.Duration) error {
	missing := len(l.keys) - len(ops)
	for i := range ops {
		if ops[i].Err == nil && !ops[i].Found {
			missing++
		}
	}
	if missing <= len(l.keys)-k.majority {
		return nil
	}
	lost := &LostError{Name: l.name, Reason: Deleted}
	k.mu.Lock()
	for i := range l.keys {
		if l.keys[i].standing != taken {
			l.keys[i].standing = gone
		}
	}
	if l.ranOut() {
		lost.Reason = Expired
	}
	k.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), min(k.patience.now(), max(latest-k.now(), 0)))
	defer cancel()
	found := make([]store.Op, len(ops))
	for i := range ops {
		found[i] = store.Op{Key: ops[i].Key, Owner: l.owner}
	}
	k.onMajority(found, majorityRequest{send: func(ops []store.Op) { k.store.Read(ctx, ops) }, decided: k.agreed})
	for i := range found {
		if found[i].Err == nil && found[i].Holder != "" {
			lost.Reason = Taken
		}
	}
	return lost
}

// untold is the error of a release that so many servers have not confirmed that the lock may still stand in others' way.
func (k *locker) untold(l *holding, ops []store.Op, until time.Duration) error {
	var why error
	silent := 0
	for i := range ops {
		if err := ops[i].Err; err != nil {
			silent++
			why = clearer(why, err)
		}
	}
	if silent <= len(l.keys)-k.majority {
		return nil
	}
	if isContextError(why) {
		why = errNoAnswer
	}
	return &ReleaseError{Name: l.name, Until: k.start.Add(until), Err: why}
}

// releaseOps is what gives all the keys back that may be there, whatever is known of them. A key that was never heard of is not, or its
// claim is still under way, and cleans up after itself. Under k.mu.
func (l *holding) releaseOps() []store.Op {
	ops := l.ops[:0]
	if l.queueing.aware && l.k.queuedKeys() > 0 {
		ops = l.passOps(ops)
	}
	for i := range l.keys[len(ops):] {
		if key := &l.keys[i]; key.standing != unheard || key.late || l.restored {
			ops = append(ops, store.Op{Key: key.name, Owner: l.owner})
		}
	}
	if l.wakes && len(ops) > 0 {
		ops[0].Wake = wakeKeyOf(l.k.prefix, l.name)
	}
	return ops
}

// lateOps is what gives those keys back of which a claim may still come. Under k.mu.
func (l *holding) lateOps() (late []store.Op) {
	for i := range l.keys {
		if l.keys[i].late {
			late = append(late, store.Op{Key: l.keys[i].name, Owner: l.owner, Force: l.takes, Answer: store.Answer{Unknown: true}})
		}
	}
	if l.queueing.epoch > 0 {
		late = l.passOps(late[:0])
		late[0].Unknown = true
	}
	return late
}

// letting is a lock as the context of its own release. It ends when the time for that is over.
type letting holding

// Deadline is context.Context's; the timer is the lock's own.
func (l *letting) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done is closed when the time for letting go is over.
func (l *letting) Done() <-chan struct{} { return l.gone }

// Err says whether it is.
func (l *letting) Err() error {
	select {
	case <-l.gone:
		return errNoAnswer
	default:
		return nil
	}
}

// Value is context.Context's.
func (l *letting) Value(any) any { return nil }

// unconfirmed picks the releases that have no answer, to be asked again.
func unconfirmed(ops []store.Op) (rest []store.Op) {
	for i := range ops {
		if op := &ops[i]; op.Err != nil && op.Err != errNotYet && !store.IsPermanent(op.Err) {
			again := *op
			again.Answer = store.Answer{}
			rest = append(rest, again)
		}
	}
	return rest
}
