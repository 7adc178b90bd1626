package ctxlock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

var (
	// errNoAnswer is what an attempt ends with when its time for an answer is over.
	errNoAnswer = ErrNoAnswer
	// errTooLate is for answers that came when the trust that they could give had already run out.
	errTooLate = errors.New("the answer came too late to be of use")
	// errOwnRemains is for a key that still has the owner value of an attempt of our own that was given up.
	errOwnRemains = errors.New("the key is still being cleaned up after an attempt whose reply was lost")
	// errSplit is for a majority that nobody got.
	errSplit = errors.New("several wanted the lock at once and nobody got a majority of its keys")
	// errNotYet is for what was decided without an answer.
	errNotYet = errors.New("no answer yet when it was decided")
	// errVanished is for keys that were ours and gone again before the answer came.
	errVanished = errors.New("the keys were gone again at once")
)

// manner is how a name is claimed.
type manner struct {
	terms *terms
	owner string // what ValueFunc gave; empty if it is still to be asked, or if there is none
	force bool   // take it from whoever has it
	arm   bool   // watch the wake key, too
	try   bool   // the caller will not wait, and may remember
	waits bool   // the caller waits if it fails
}

// setback is what an attempt that failed has found out.
type setback struct {
	err error
	// key is one that another holds, with its holder and its TTL; empty if none was seen.
	key    string
	holder string
	ttl    time.Duration
	// armed is how long the wake key will exist; zero if it was not asked for.
	armed time.Duration
	// remains tells that an own attempt's remains are in the way.
	remains bool
	// vanished tells that the keys were ours, and then nobody's: another call here has taken the lock from this one, and given it back.
	vanished bool
	// split tells that some keys were ours.
	split bool
	// clash is another majority that was met; nil if none was.
	clash *MajorityError
	// faulty tells that there were keys that could not be asked for.
	faulty bool
	// queueErr is what the node failed with that the queue is on; nil if it answered.
	queueErr error
}

// unacknowledged tells whether all that the attempt was short of is replicas.
func (b *setback) unacknowledged() bool {
	var missing *ReplicaError
	return b.key == "" && errors.As(b.err, &missing)
}

// claimClean makes one attempt, and others while all that was in its way were, or may have been, remains of our own: the lock is free
// then, and saying anything else would be wrong. Other callers here may give up claims all the time, so there is more than one, for as long as an
// attempt may take.
func (k *locker) claimClean(ctx context.Context, name string, how manner) (*holding, setback) {
	began := k.now()
	until := began + k.patience.now()
	l, back := k.claim(ctx, name, how)
	if l != nil || !k.cleared(ctx, name, back, began) {
		return l, back
	}
	l, back = k.claim(ctx, name, how)
	pause := backoff{first: repeatPause, most: 20 * repeatPause}
	for l == nil && k.now() < until && (back.vanished || back.remains && k.sweepName(ctx, name)) {
		if !sleepFor(ctx, pause.next()) {
			break
		}
		l, back = k.claim(ctx, name, how)
	}
	return l, back
}

// cleared tells whether all that a claim has met was the own, and is gone now.
func (k *locker) cleared(ctx context.Context, name string, back setback, began time.Duration) bool {
	return back.vanished || back.remains && k.sweepName(ctx, name) || k.sweptSince(name, back, began)
}

// sweptSince tells whether what a claim has met may be a place in the queue that was given up and is gone: a lock is passed on to such a place
// now and then.
func (k *locker) sweptSince(name string, back setback, began time.Duration) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.contention[name]
	return c != nil && c.swept >= began && back.key != ""
}

// claim makes one attempt at a name: it sends for all keys at once and returns as soon as a majority has answered well, or
// can no longer. What it leaves behind when it fails is cleaned up.
func (k *locker) claim(ctx context.Context, name string, how manner) (*holding, setback) {
	if from := how.terms.From; k.clashes(from) {
		return nil, setback{err: fmt.Errorf("ctxlock: %w", k.clash(name, from))}
	}
	if how.owner == "" {
		var err error
		if how.owner, err = how.terms.owner(); err != nil {
			return nil, setback{err: err}
		}
	}
	l := k.newHolding(ctx, name, how.terms, how.owner, claiming)
	l.wakes, l.tries, l.waits = how.arm, how.try && k.fromMemory, how.waits
	l.takes = how.force || how.terms.From != ""
	l.claimOps(how, l.ops)
	ops := l.ops
	if err := k.register(l, k.patience.now()); err != nil {
		l.end(err)
		return nil, setback{err: err}
	}
	defer k.work.Done()
	l.ask(ops)
	l.confirm()

	var ended error // worked out before k.mu: ctx is somebody else's code, and may be another lock, which takes k.mu itself
	if ctx.Err() != nil {
		ended = ctxError(ctx, name, nil)
	}
	k.mu.Lock()
	won := l.state == held
	if won {
		k.mu.Unlock()
		l.endOusted()
		return k.settle(ctx, l)
	}
	back := k.appraise(ended, l, ops)
	k.abandon(l, ops, back.err)
	return nil, back
}

// abandon ends a claim that failed, and cleans up after it. Unlocks k.mu.
func (k *locker) abandon(l *holding, ops []store.Op, cause error) {
	remains := l.remainsOf(ops)
	if l.takes { // it may have been taken all the same
		delete(k.refusals, l.name)
	}
	k.mu.Unlock()
	l.endOusted()
	l.end(cause)
	l.timer.Stop()
	k.leave(l.name, remains, k.now()+ops[0].Validity)
}

// settle does what is still to do about a lock before it is handed out: with several keys, the fencing token, which is the greatest
// that any of them gave, is written back to a majority, so that whoever holds a majority next gets a greater one.
func (k *locker) settle(ctx context.Context, l *holding) (*holding, setback) {
	if !l.terms.Fencing {
		return l, setback{}
	}
	k.floors.raise(l.name, l.token)
	if len(l.keys) == 1 {
		return l, setback{}
	}
	asked, cancel := context.WithTimeoutCause(ctx, k.patience.now(), errNoAnswer)
	defer cancel()
	if err := l.extend(asked, l.terms.validity); err != nil {
		k.cancelAll(ctx, []*holding{l})
		if isContextError(err) && ctx.Err() == nil {
			err = errNoAnswer
		}
		return nil, setback{err: fmt.Errorf("ctxlock: %s: the fencing token is not on a majority: %w", quote(l.name), &lastAttempt{err, l.name})}
	}
	return l, setback{}
}

// claimOps fills in what the claim asks for.
func (l *holding) claimOps(how manner, ops []store.Op) {
	var floor int64
	if l.terms.Fencing {
		floor = l.k.floors.of(l.name)
	}
	for i := range ops {
		ops[i] = store.Op{Key: l.keys[i].name, Owner: l.owner, Validity: l.validity, From: l.terms.From, Force: how.force, Replicas: int32(l.terms.Replicas)}
		if l.terms.Fencing {
			ops[i].Counter, ops[i].Floor = counterKeyOf(l.k.prefix, i, l.name), floor
		}
	}
	if how.arm {
		ops[0].Wake = wakeKeyOf(l.k.prefix, l.name)
	}
}

// ask sends the claim on all lanes that its keys need and returns when it is decided.
func (l *holding) ask(ops []store.Op) {
	k := l.k
	groups := byLane(k.store, ops)
	if groups == nil {
		l.askLane(l, ops, nil, ops)
		return
	}
	// Lanes that are slower than the decision are not cut short: their answers are booked all the same. They strengthen the lock, or
	// are cleaned up, and an answer that came is cheaper to clean up after than one that may still come.
	k.mu.Lock()
	l.decided, l.isDecided = make(chan struct{}), false
	if l.state != claiming { // patience was over before it began
		k.mu.Unlock()
		return
	}
	k.mu.Unlock()
	ctx, cancel := context.WithTimeoutCause(k.life, k.patience.now(), errNoAnswer)
	var lanes sync.WaitGroup
	for _, indexes := range groups {
		asked := pick(ops, indexes) // now: once it is decided, ops is somebody else's
		lanes.Add(1)
		k.work.Go(func() { // the caller has a place in work, so it is open
			defer lanes.Done()
			if l.wanted() {
				l.askLane(ctx, asked, indexes, ops)
			}
		})
	}
	k.work.Go(func() {
		lanes.Wait()
		cancel()
	})
	select {
	case <-l.decided:
	case <-l.Done():
		k.mu.Lock()
		if l.state == claiming {
			l.giveUp()
		}
		k.mu.Unlock()
	}
}

// wanted tells whether it is worth asking for more keys.
func (l *holding) wanted() bool {
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	return l.state <= held
}

// askLane claims the keys of one lane. indexes tells which of the lock's keys they are, nil for all; the answers are
// booked in all while the claim is undecided.
func (l *holding) askLane(ctx context.Context, ops []store.Op, indexes []int, all []store.Op) {
	sent := l.k.now()
	l.k.store.Claim(ctx, ops)
	// Where the connection broke, the claim may have been carried out. Asking again with the same owner value does no harm and tells;
	// trust still counts from the first time. The first to ask again may meet the connection while it is taken down.
	late := anyUnknown(ops)
	for again := range mostRepeats {
		if !anyUnknown(ops) || anyUnacknowledged(ops) || !sleepFor(ctx, time.Duration(again)*repeatPause) {
			break
		}
		l.k.store.Claim(ctx, ops)
		for i := range ops {
			ops[i].Unknown, ops[i].Stream = ops[i].Err != nil, 0 // the first may have been of another
		}
	}
	k := l.k
	k.mu.Lock()
	if l.state > held {
		remains := l.remainsOf(ops)
		k.mu.Unlock()
		k.leave(l.name, remains, sent+ops[0].Validity)
		return
	}
	clash := l.bookLane(sent, ops, indexes, all, late)
	l.unanswered -= int32(len(ops))
	if l.tries && indexes == nil && l.state == claiming && clash == nil {
		k.remember(l, sent, ops)
	}
	if clash != nil {
		k.refuseClash(l, clash)
		return
	}
	k.judge(l, sent)
	if l.state == claiming && l.waits && int(l.unanswered) <= len(l.keys)-k.majority && l.count(taken) > 0 {
		// Others are at it, too. Whoever keeps a minority of the keys until the rest has answered, or not, keeps everybody from a majority.
		l.endBy(k.now() + max(leastGrace, k.patience.trips(4)))
	}
	k.mu.Unlock()
}

// bookLane books the answers of one lane. It gives another majority that was met. Under k.mu.
func (l *holding) bookLane(sent time.Duration, ops []store.Op, indexes []int, all []store.Op, late bool) (clash *MajorityError) {
	for j := range ops {
		if l.state == claiming && ops[j].Mine() { // not the late ones: the token may have been handed out
			l.token = max(l.token, ops[j].Token)
		}
		i := j
		if indexes != nil {
			i = indexes[j]
			all[i] = ops[j]
		}
		if l.keys[i].standing == unheard { // else an extension has been answered already, and says more
			l.book(i, sent, &ops[j])
		}
		l.keys[i].late = l.keys[i].late || late
		if ops[j].Err == nil && l.k.clashes(ops[j].Holder) {
			clash = l.k.clash(l.name, ops[j].Holder)
		}
	}
	return clash
}

const (
	mostRepeats = 3
	repeatPause = 5 * time.Millisecond
)

// sleepFor waits for a time, and reports whether ctx lives after that.
func sleepFor(ctx context.Context, d time.Duration) bool {
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// anyUnacknowledged tells whether replicas are what is missing.
func anyUnacknowledged(ops []store.Op) bool {
	var missing *ReplicaError
	for i := range ops {
		if errors.As(ops[i].Err, &missing) {
			return true
		}
	}
	return false
}

func anyUnknown(ops []store.Op) bool {
	for i := range ops {
		if ops[i].Unknown {
			return true
		}
	}
	return false
}

// judge decides a claim if what has been answered so far decides it. Under k.mu.
func (k *locker) judge(l *holding, sent time.Duration) {
	switch {
	case l.state == held: // a late answer has strengthened it
		l.believe()
	case l.count(mine) >= k.majority && (l.overtaken > 0 || l.barred()): // its own call is to confirm it first
		l.decide()
	case l.count(mine) >= k.majority:
		k.begin(l, sent)
	case l.count(mine)+int(l.unanswered) < k.majority:
		l.giveUp()
	}
}

// begin makes a claim that has its majority a held lock, unless that comes too late to be of use. Under k.mu.
func (k *locker) begin(l *holding, sent time.Duration) {
	now := k.now()
	until := l.until()
	if until <= now || l.Context.Err() != nil || k.ended {
		l.giveUp()
		return
	}
	k.patience.learn(now - sent)
	l.lastErr = nil
	delete(k.refusals, l.name)
	l.state, l.granted = held, now
	k.oust(l)
	l.handEnds = sent + k.drift.windowOf(l.validity)
	l.believe()
	l.due = sent + l.interval()
	if l.again || until-now < l.validity/2 { // its keys may have been passed on a while ago
		l.due = now
	}
	if l.keepers > 0 || l.again {
		k.schedule(l)
	}
	l.decide()
}

// giveUp ends a claim without success. Under k.mu.
func (l *holding) giveUp() {
	l.k.retire(l)
	l.decide()
}

func (l *holding) decide() {
	if l.decided != nil && !l.isDecided {
		l.isDecided = true
		close(l.decided)
	}
}

// remainsOf picks what a claim that failed has left on the servers, or may have.
func (l *holding) remainsOf(ops []store.Op) (remains []store.Op) {
	for i := range ops {
		if op := &ops[i]; op.Unknown || op.Err == nil && op.Holder == l.owner {
			rest := store.Op{Key: op.Key, Owner: op.Owner, Force: l.takes, Answer: store.Answer{Unknown: op.Unknown, Stream: op.Stream}}
			if op.Unknown {
				rest.Wake = op.Wake // which may have been made, too
			}
			remains = append(remains, rest)
		}
	}
	return remains
}

// appraise says why a claim failed, from the answers that it has. Under k.mu.
// ended is the error that it is if the caller's context has ended.
func (k *locker) appraise(ended error, l *holding, ops []store.Op) setback {
	back := setback{split: l.count(mine) > 0}
	var fault error
	for i := range ops {
		op := &ops[i]
		switch {
		case op.Err != nil:
			back.faulty = true
			if fault == nil || store.IsPermanent(op.Err) {
				fault = op.Err
			}
			if isContextError(fault) {
				fault = errNoAnswer // these would be taken for the caller's own
			}
		case op.Holder == "" || op.Holder == l.owner:
		case k.clashes(op.Holder):
			back.clash = k.clash(l.name, op.Holder)
		case k.isRemains(op.Holder):
			back.remains = true
		case back.key == "" || op.TTL < back.ttl:
			back.key, back.holder, back.ttl = op.Key, op.Holder, op.TTL
		}
		if op.Wake != "" && op.Err == nil {
			back.armed = op.WakeTTL
		}
	}
	back.err = k.explain(ended, l, back, fault, ops)
	back.vanished = l.overtaken > 0 && errors.Is(back.err, errVanished)
	return back
}

// explain finds the error for a claim that failed.
func (k *locker) explain(ended error, l *holding, back setback, fault error, ops []store.Op) error {
	about := func(err error) error { return fmt.Errorf("ctxlock: %s: %w", quote(l.name), err) }
	switch {
	case k.ended:
		return ErrLockerClosed
	case back.clash != nil:
		return fmt.Errorf("ctxlock: %w", back.clash)
	case ended != nil && back.key == "" && (fault != nil || l.unanswered > 0):
		return fmt.Errorf("%w (%w)", ended, errNoAnswer) // as unanswered does
	case ended != nil:
		return ended
	case k.names != nil && l.count(mine) < k.majority:
		return about(k.quorumError(l, ops))
	case back.key != "" && fault != nil:
		return about(fmt.Errorf("%w: %s; %w", ErrNotLocked, heldBy(k.isHere(l.name, back.holder)), fault))
	case back.key != "":
		return &heldByAnother{l.name, k.isHere(l.name, back.holder)}
	case l.count(mine) >= k.majority && l.overtaken > 0:
		return &heldByAnother{l.name, true}
	case l.count(mine) >= k.majority:
		return about(errTooLate)
	case fault != nil:
		return about(fault)
	case back.remains:
		return about(errOwnRemains)
	case back.split:
		return about(errSplit)
	case l.unanswered > 0:
		return about(errNoAnswer)
	default:
		return about(errVanished)
	}
}
