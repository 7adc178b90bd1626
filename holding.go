package ctxlock

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// state is where a lock is in its life. It only ever moves on.
type state int8

const (
	claiming  state = iota // its keys are being asked for
	queued                 // its wait stands in line, here or in the queue on the server
	held                   // a majority of its keys answered well, and trust has not run out
	lettingGo              // released, and the servers are being told
	over                   // given up, released or lost
)

// holding is one attempt at a name, and, if that succeeds, the holding of it. It is also the context that its holder gets.
type holding struct {
	// Context is what end ends, and a child of the caller's.
	context.Context
	end context.CancelCauseFunc

	k     *locker
	terms *terms
	name  string
	owner string // the value of its keys: the owner value and, after a line break, the metadata
	// handle is what the holder gets beside the context.
	handle Lock

	// timer calls expire no later than ends, which is when patience is over while claiming, trust while held, and the time for
	// letting go after that. It is set anew only to fire earlier: short holdings leave it alone, since timers cost more than locks. It is made once, under k.mu.
	timer *time.Timer
	// ops is what the claim asks for, and later the release. It belongs to the goroutine that
	// claims, and once the claim is decided to the one that moves the lock to its next state; k.mu
	// orders the two.
	ops []store.Op
	// trusted is when trust ends, as k.now counts; zero until the lock is held. It is what Err goes by.
	trusted atomic.Int64
	// decided is closed when claiming is over; nil if one goroutine asks for all the keys.
	decided chan struct{}
	// ousted are those whom it was taken from in this process, whose contexts are to be ended. Written under k.mu, before the claim is decided.
	ousted *oustedHolder
	// released is closed when the release is done, and gone when the time for it is over; both are nil before it begins.
	released, gone chan struct{}
	// token is the fencing token, or zero. It is settled before the lock is handed out.
	token int64
	// bundle is what it was taken together with, or nil.
	bundle atomic.Pointer[bundle]

	// All that follows is under k.mu from when the holding is in the books (register, makeHeir,
	// openPlace); before that, it is its creator's alone.
	state      state
	validity   time.Duration // how long an extension lets the keys live
	granted    time.Duration // when it was known to be held
	mayLive    time.Duration // by then its keys have run out, whatever came of the requests
	keepers    int32         // how many want it extended in the background
	renewing   bool          // the round that is under way extends; else it only looks
	forced     bool          // somebody waits for the next round, and that is to extend
	audience   *audience     // nil unless somebody wants to know
	ends       time.Duration // when the present state has to end
	fires      time.Duration // when timer fires next, or never
	keys       []lockKey
	unanswered int32         // keys that still owe an answer to the claim
	turn       int32         // counts rounds of extension
	open       bool          // the round is not decided yet
	asking     int32         // its requests that have no answer yet
	good       int32         // its answers that confirm the lock
	again      bool          // something happened since the last look was sent: look again
	wakes      bool          // somebody may be waiting on the wake key: delete it on release
	restored   bool          // keys of which nothing was heard may be there all the same: they were set again, or not confirmed
	tries      bool          // what it meets is remembered if it fails
	waits      bool          // there will be another attempt if it fails
	isDecided  bool          // decided is closed
	takes      bool          // it takes the lock from its holder: by force, or because that one hands it over. Set before it is asked for
	overtaken  int32         // how often another got the lock here since its requests were sent
	due        time.Duration // when to extend next, while on the agenda
	place      int           // index in the agenda, or offAgenda
	extended   time.Duration // when it was last sent to be extended
	restless   backoff       // between touches that follow each other fast
	lastErr    error         // why the last extension failed
	queueing   queueing      // what is known of the queue on the server
	handed     int32         // how often in a row it was handed on within this process
	handEnds   time.Duration // and until when that may go on
	next, prev *holding      // others of this name in this process

	// What keys and ops point to when there is only one.
	singleKey [1]lockKey
	singleOp  [1]store.Op
}

// lockKey is what is known of one of a lock's keys.
type lockKey struct {
	name     string
	until    time.Duration // trust in this key, as k.now counts
	lives    time.Duration // when the key runs out unless it is extended
	given    time.Duration // the validity that it was given last
	renewed  int32         // the last round that confirmed it
	standing standing
	watched  bool // the store will send an event when it changes
	echo     bool // and the next one will be of our own making
	late     bool // a claim of it was not answered, so it may still come, after the release, too
}

// standing is what was last heard of a key.
type standing int8

const (
	unheard standing = iota // nothing, or only errors
	mine
	gone
	taken
)

const (
	offAgenda               = -1
	never     time.Duration = math.MaxInt64
)

// newHolding makes a holding that is about to be claimed, or that is to stand in line.
func (k *locker) newHolding(ctx context.Context, name string, t *terms, owner string, s state) *holding {
	l := &holding{k: k, terms: t, name: name, state: s, place: offAgenda, restless: afterNothing, validity: t.validity, fires: never}
	l.handle.held = l
	l.mayLive = k.now() + t.validity + k.patience.now()
	if !t.NoExtend {
		l.keepers = 1
	}
	l.Context, l.end = context.WithCancelCause(ctx)
	n := k.keys()
	if n == 1 {
		l.keys, l.ops = l.singleKey[:], l.singleOp[:]
	} else {
		l.keys, l.ops = make([]lockKey, n), make([]store.Op, n)
	}
	l.unanswered = int32(n)
	if s == claiming { // one that stands in line may inherit its names
		l.nameKeys(owner)
	}
	return l
}

// interval is how often the lock is extended.
func (l *holding) interval() time.Duration {
	if l.validity == l.terms.validity {
		return l.terms.interval
	}
	return l.k.drift.intervalOf(l.validity, 0)
}

// nameKeys makes the names of all the keys and the owner value, unless that is given, as parts of one string, since a lock
// costs little else.
func (l *holding) nameKeys(value string) {
	k := l.k
	var room [256]byte
	buf := append(room[:0], value...)
	if value == "" {
		// No two attempts share an owner value, so that one's clean-up cannot take another's key.
		buf = appendOwner(buf, k.id, l.state == queued, k.queuedKeys() == 0, k.moments.next(k.now()), l.terms.Value)
	}
	if l.terms.Metadata != "" {
		buf = append(append(buf, metadataMark), l.terms.Metadata...)
	}
	owner := len(buf)
	for i := range l.keys {
		buf = appendKey(buf, k.prefix, i, l.name)
	}
	all := string(buf)
	l.owner = all[:owner]
	rest := all[owner:]
	for i := range l.keys {
		length := len(k.prefix) + len(l.name) + len(":0:")
		for digits := i; digits >= 10; digits /= 10 {
			length++
		}
		l.keys[i].name, rest = rest[:length], rest[length:]
	}
}

// Err is context.Context's. It does not wait for a timer to notice that trust has run out: a process that was stopped and goes
// on must not read "still held" before the runtime has come round to its timers.
func (l *holding) Err() error {
	if err := l.Context.Err(); err != nil {
		return err
	}
	if until := l.trusted.Load(); until != 0 && l.k.now() >= time.Duration(until) && l.expire() {
		<-l.Context.Done() // somebody else may be about to end it
	}
	return l.Context.Err()
}

// Value is context.Context's. FromContext finds the handle by it.
func (l *holding) Value(key any) any {
	if key == (handleKey{}) {
		return &l.handle
	}
	return l.Context.Value(key)
}

// trustUntil is the rule that every belief in a lock rests on: it is counted from before the request was sent, and ends a
// margin before the key can. ttl is what the server said the key had left, which counts where it is less.
func (d drift) trustUntil(sent, validity, ttl time.Duration) time.Duration {
	return sent + min(validity, ttl) - d.marginOf(validity)
}

// book notes what a store answered about key i, to a request sent at the given time. Under k.mu.
func (l *holding) book(i int, sent time.Duration, op *store.Op) {
	key := &l.keys[i]
	switch {
	case op.Err != nil: // nothing was learned
		err := op.Err
		if isContextError(err) {
			err = errNoAnswer // these would be taken for the caller's own
		}
		if l.lastErr == nil || err != errNoAnswer { // a reason says more than silence
			l.lastErr = err
		}
	case op.Holder == l.owner:
		// What it was given counts, but no more than what it was given since, while this answer was on its way.
		if op.Validity != 0 {
			key.given = min(l.validity, op.Validity)
		}
		validity := key.given
		key.standing = mine
		key.watched = true
		key.until = l.k.drift.trustUntil(sent, validity, op.TTL)
		key.lives = key.until + l.k.drift.marginOf(validity)
	case op.Holder == "":
		key.standing = gone
	default:
		key.standing = taken
	}
}

// until is when trust in the lock ends: up to then, a majority of the keys cannot have run out.
func (l *holding) until() time.Duration {
	if len(l.keys) == 1 {
		return l.keys[0].until
	}
	ends := make([]time.Duration, 0, 8)
	for i := range l.keys {
		if l.keys[i].standing == mine {
			ends = append(ends, l.keys[i].until)
		}
	}
	if len(ends) < l.k.majority {
		return 0
	}
	slices.Sort(ends)
	return ends[len(ends)-l.k.majority]
}

// count tells how many keys have the standing.
func (l *holding) count(s standing) (n int) {
	for i := range l.keys {
		if l.keys[i].standing == s {
			n++
		}
	}
	return n
}

// endBy sets when the present state has to end. Under k.mu.
func (l *holding) endBy(at time.Duration) {
	l.ends = at
	if at >= l.fires {
		return
	}
	l.fires = at
	if left := max(0, at-l.k.now()); l.timer == nil {
		l.timer = time.AfterFunc(left, func() { l.expire() })
	} else {
		l.timer.Reset(left)
	}
}

// expire is what the timer calls. It looks at the clock itself, so a call too many or too early does no harm. It reports whether
// the lock is over, so that its context has ended or is about to.
func (l *holding) expire() (ended bool) {
	k := l.k
	k.mu.Lock()
	l.fires = never
	if now := k.now(); now < l.ends && l.state != over {
		if l.ends != never {
			l.fires = l.ends
			l.timer.Reset(l.ends - now)
		}
		k.mu.Unlock()
		return false
	}
	var cause error
	switch l.state {
	case claiming:
		cause = errNoAnswer
		l.giveUp()
	case queued: // its wait goes on from another place
		cause = errNoAnswer
		l.state = over
	case held:
		lost := l.expired()
		k.retire(l)
		k.mu.Unlock()
		l.lost(lost)
		return true
	case lettingGo:
		l.state = over
		close(l.gone)
	}
	k.mu.Unlock()
	if cause != nil {
		l.end(cause)
	}
	return true
}

// finish ends the context of a lock that was held, and of those that it was taken together with. Not under k.mu.
func (l *holding) finish(cause error) {
	l.end(cause) // before the bundle is looked for: one that it joins meanwhile finds it ended
	if b := l.bundle.Load(); b != nil {
		b.end(cause)
	}
}

// lost ends the context of a lock that was lost, and tells who wants to know. Not under k.mu.
func (l *holding) lost(cause *LostError) {
	l.k.mu.Lock()
	l.heard().loss = cause // before anybody can ask
	l.k.mu.Unlock()
	l.finish(cause)
	first := context.Cause(l.Context) == cause // else it had ended before, and was only not given back
	l.k.mu.Lock()
	defer l.k.mu.Unlock()
	if ended := l.k.ending[l]; ended != nil {
		close(ended)
		delete(l.k.ending, l)
	}
	if first {
		l.audience.told = true
		l.tell(cause)
	}
}

// expired is the cause of a lock that could not be extended in time. Under k.mu.
func (l *holding) expired() *LostError {
	cause := &LostError{Name: l.name, Reason: Expired, Err: l.lastErr}
	if cause.Err == nil && l.open {
		cause.Err = errNoAnswer
	}
	return cause
}

// believe sets how long the lock may be believed in. Under k.mu.
func (l *holding) believe() {
	until := l.until()
	l.trusted.Store(int64(until))
	l.endBy(until)
}

// lose ends a held lock whose majority is gone. Under k.mu; the caller ends the context with the cause, after k.mu
// and before anything else, and then lets go of what is left.
func (l *holding) lose() *LostError {
	cause := &LostError{Name: l.name, Reason: Deleted, Err: l.lastErr}
	if l.count(taken) > 0 {
		cause.Reason = Taken
	} else if l.ranOut() {
		cause.Reason = Expired
	}
	l.k.retire(l)
	l.stopTimer()
	return cause
}

// stopTimer is for a lock that is over: its timer would keep it, and the locker, for as long as it was trusted. Under k.mu.
func (l *holding) stopTimer() {
	if l.timer != nil {
		l.timer.Stop()
	}
	l.fires = never
}

// ranOut tells whether the keys that are gone had lived their time.
func (l *holding) ranOut() bool {
	now := l.k.now()
	for i := range l.keys {
		if l.keys[i].standing == gone && now < l.keys[i].lives {
			return false
		}
	}
	return true
}

// register puts a lock that is about to be claimed into the books, so that events find it from
// before its request is sent, and sets for how long its claim may take. It fails once the locker is
// closed; otherwise the caller has a place in k.work.
func (k *locker) register(l *holding, timeout time.Duration) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return ErrLockerClosed
	}
	k.work.Add(1)
	k.link(l)
	if l.takes {
		k.outlive(l)
	}
	l.endBy(k.now() + timeout)
	return nil
}

// link puts a holding into the books by its name. Under k.mu.
func (k *locker) link(l *holding) {
	if first := k.locks[l.name]; first != nil {
		first.prev, l.next = l, first
	}
	k.locks[l.name] = l
}

// retire takes a lock out of all books, and has the first in line see to it if it was held. Under k.mu; a second call does nothing.
func (k *locker) retire(l *holding) {
	wasHeld := l.state == held
	k.unlink(l)
	delete(k.places, l.owner)
	if wasHeld && l.Context.Err() == nil {
		k.ending[l] = make(chan struct{}) // until lost has ended its context
	}
	if wasHeld {
		k.callNext(l.name)
	}
}

// unlink is retire for a lock that goes on in other hands. Under k.mu.
func (k *locker) unlink(l *holding) {
	l.state = over
	l.wakeWaiting()
	k.agenda.remove(l)
	switch {
	case l.prev != nil:
		l.prev.next = l.next
	case k.locks[l.name] == l && l.next != nil:
		k.locks[l.name] = l.next
	case k.locks[l.name] == l:
		delete(k.locks, l.name)
	}
	if l.next != nil {
		l.next.prev = l.prev
	}
	l.next, l.prev = nil, nil
}

// String keeps fmt from walking through the engine when somebody prints the context.
func (l *holding) String() string { return fmt.Sprintf("%v.WithLock(%s)", l.Context, quote(l.name)) }
