package ctxlock

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/store"
)

// Locker hands out locks that are held as contexts. All of its methods are safe for use by many goroutines at once.
//
// The three calls that take a lock share their terms. The returned context is a child of ctx. It ends, with the reason as its
// cause (see context.Cause), before another can hold the lock, but for what the package's Guarantee excludes: ErrReleased after cancel, a *LostError after a loss,
// ErrLockerClosed after Close, or ctx's own cause. When ctx ends, that is not a release: the returned context ends, and the
// lock stays taken, no longer extended, until cancel is called or until it runs out after KeyValidity, because guarded work may
// still be unwinding. So call cancel when the work is over, always.
//
// cancel ends the context, gives the lock back and returns when the servers have confirmed that, or after 2s; what they
// have not confirmed is tried again in the background. It is never nil, even beside an error, and may be called many
// times, from any goroutine, and after Close.
//
// Locks are not reentrant: each call is a holder of its own. WithContext for a name that the caller holds waits for the caller,
// and TryWithContext returns ErrNotLocked.
//
// Err of the returned context looks at the clock itself, so in a process that was stopped it tells of the end at once; Done
// follows as soon as the runtime comes round to its timers.
//
// Names are any non-empty strings of at most 64 KiB. A nil ctx, and a name that is not allowed, are errors at once; so is a ctx
// that has ended, with an error that wraps its error and its cause. Beside an error, the returned context has already ended:
// with that error as its cause or, if ctx has ended, with ctx's own.
type Locker interface {
	// WithContext takes the lock, waiting for it as long as it takes. Waiters are served in the order in which they came, those of other
	// Lockers included; docs/fairness.md says what breaks that order. It returns early with an error that waiting cannot
	// mend (no permission, a key of another type), with ErrLockerClosed, and when ctx ends: then the error wraps ctx's error, ctx's
	// cause and the error of the last attempt, and says for how long attempts have failed if they have.
	WithContext(ctx context.Context, name string) (context.Context, context.CancelFunc, error)
	// TryWithContext takes the lock if it is free and returns ErrNotLocked, in one round trip, if another holds it. If
	// the servers could not be asked, it returns their error without ErrNotLocked. It makes one attempt, which ends after
	// TryNextAfter (1.5s by default) if nodes do not answer, or when ctx ends.
	TryWithContext(ctx context.Context, name string) (context.Context, context.CancelFunc, error)
	// Client is the client that the Locker uses. It is nil on independent nodes and on a store other than Valkey. Close closes it.
	Client() valkey.Client
	// ForceWithContext takes the lock from its holder, in one attempt like that of TryWithContext. A
	// holder in this Locker has its context ended, with Reason Taken, before this call returns, and so
	// has one that is granted the lock at the same moment: of the contexts of one Locker, no other is
	// alive by then. If the call fails, the holder keeps the lock; unless the servers have carried it
	// out although no answer came: then the holder's context ends when that is found, which is before
	// the lock is let go. Of two such calls at once one may fail, with ErrNotLocked.
	//
	// A holder elsewhere is told by its server. Its context ends, with Reason Taken, when word arrives
	// or at its next extension. After this call, or Acquire with Mode Force or with From, two contexts
	// of different Lockers may be alive at once for that long; otherwise never. (All Lockers need the
	// same KeyMajority: a holder with a greater one may not be told.)
	ForceWithContext(ctx context.Context, name string) (context.Context, context.CancelFunc, error)
	// Acquire takes the lock on terms of the caller's own, and gives a handle in place of the cancel function: see AcquireOption
	// and Lock. With the zero AcquireOption it is WithContext. Release the lock when the work is over, always. Beside an
	// error the handle is nil, on which its methods are safe, so Release may be deferred before the error is looked at.
	Acquire(ctx context.Context, name string, option AcquireOption) (context.Context, *Lock, error)
	// AcquireAll takes several locks, all of them or none, as one: the context ends when any of them
	// ends, and one Release gives all back. Callers who name them in different orders do not block
	// each other for good, and neither do those who wait for one of them while they hold another.
	// With Mode Try it fails unless all are free. A wait holds some of them while it waits for the
	// others, one after the other, for each of those up to a quarter of a validity. Names that are
	// given twice count once. No names, or more than 1024, are an error.
	AcquireAll(ctx context.Context, names []string, option AcquireOption) (context.Context, *Lock, error)
	// Look asks the servers who holds a lock, since when and until when, with what metadata, and how many wait for it. It changes
	// nothing and takes one round trip, at most TryNextAfter. What it says may be over when it returns. It is an error if no majority
	// of the keys could be read. To take a lock by name from whoever holds it, there is ForceWithContext.
	Look(ctx context.Context, name string) (Status, error)
	// List is Look for all names under KeyPrefix that are held. It goes through all keys of the servers (SCAN), some at a time, which
	// takes as long as there are keys, and looks at what it finds in batches. A lock that is held from beginning to end is found, once;
	// one that is taken or released meanwhile may be. An error ends it, and comes with a zero Status.
	List(ctx context.Context) iter.Seq2[Status, error]
	// Close ends every context that this Locker handed out, with ErrLockerClosed, releases what is held, makes waiting calls
	// return ErrLockerClosed, and closes the client. It returns when all that is done, or after about 3s if the servers do not
	// answer. A second call waits for the first. Calls made afterwards return ErrLockerClosed.
	Close()
}

// NewLocker makes a Locker on the Valkey or Redis servers that option.ClientOption describes: standalone, Sentinel or Cluster.
// It connects, for as long as ClientOption.Dialer.Timeout allows (5s by default) and no context ends sooner. The error if
// that fails names the addresses, says what to do, and wraps the client's own. An option that contradicts itself, and an
// address that is not host:port (unless ClientBuilder or a dialer of one's own is set), is an error at once; so are servers
// on which no locks can be kept: a replica, a sentinel without MasterSet, one node of a cluster as if it were all.
//
// It then asks the servers what they can do, for up to 2s. What they have not answered by then is asked again in the
// background until they do, or the Locker is closed: until then the Locker polls, or does without a queue.
//
// A Locker keeps one connection for each node, and a few goroutines, whatever the number of locks.
//
// It is New with the default Contention: waiters stand in a queue on the server, where that is allowed.
//
// Waiters and holders are told of changes by client-side caching (CLIENT TRACKING). Where there is none, because of
// ClientOption.DisableCache or of a ClientBuilder that built something else, the Locker polls: a waiter asks every 10 to 500 ms,
// less often the longer it waits, so a change of hands takes up to half a second longer, and a holder learns of a
// takeover or a deletion only at its next extension.
func NewLocker(option LockerOption) (Locker, error) {
	return New(Options{LockerOption: option})
}

// NewLockerOnStore makes a Locker on a store of another kind; ClientBuilder, ClientOption, NoLoopTracking and FallbackSETPX are
// not used. The Locker closes the store when it is closed.
func NewLockerOnStore(s store.Store, option LockerOption) (Locker, error) {
	return NewOnStore(s, Options{LockerOption: option})
}

// locker is the engine: it knows what this process holds and wants, and asks a store for the rest.
type locker struct {
	store  store.Store
	client valkey.Client // nil unless the store is one Valkey deployment
	names  naming        // of nodes; nil unless the store has them

	prefix   string
	majority int
	drift    drift
	terms    *terms // of the drop-in calls
	patience patience

	start   time.Time // what now counts from
	id      string    // first part of every owner value of this locker
	moments moments
	floors  floors

	queue         bool        // waiters may stand in a queue on the server
	localHandoffs int         // how often in a row a lock is handed on within this process
	fromMemory    bool        // tries fail from memory
	ownValues     atomic.Bool // somebody has made owner values of his own

	life    context.Context // ends when Close begins
	endLife context.CancelFunc
	work    sync.WaitGroup // goroutines of the engine, and calls under way; Add only under mu while not ended
	kick    chan struct{}  // of one: upkeep looks at the agenda again
	closed  chan struct{}  // closed when Close is done

	// crowd is taken before mu by those who stand in line or leave it. Thousands may do so at once, and only one of them at a time is to compete for mu
	// with all others.
	crowd sync.Mutex
	// mu guards what follows, and the fields of locks and lines that say so. Nothing blocks and nobody else's code runs under it.
	mu        sync.Mutex
	ended     bool
	locks     map[string]*holding        // by name: a list, by lock.next, of those being claimed or held
	ending    map[*holding]chan struct{} // those that are lost: closed when the context has ended
	lines     map[string]*line           // by name: who waits
	agenda    agenda                     // held locks, by when they are to be extended
	leftovers map[*leftover]struct{}
	places    map[string]*place     // by owner value: who stands in queues on the server
	queueDown map[int]time.Duration // by lane: until when the queues there are left alone
	suspects  map[int]bool          // lanes that are being asked whether their nodes answer
	refusals  map[string]*refusal   // by name: what tries remember
	// contention has names that somebody had to wait for.
	contention map[string]*contention
	// sweepQueue has those of them that are not being swept, and sweeps, by lane, those that are to be.
	sweepQueue sweepQueue
	sweeps     map[int]*laneSweep
	remains    map[string]int // owner values that leftovers have, or had a moment ago, with how many
	givenBack  map[*giveBack]struct{}
	// sweptOwners are those that had, the one that is over first in front.
	sweptOwners []sweptOwner
	wakeAt      time.Duration    // when upkeep looks at the agenda next
	notes       map[string]*note // by name: what stands on lists of who waits
	noting      bool             // writeNotes runs
	notesDue    time.Duration    // when to look whether there is something to note
}

func newLocker(s store.Store, option LockerOption, c Contention, d drift) *locker {
	k := &locker{
		store:     s,
		prefix:    option.KeyPrefix,
		majority:  int(option.KeyMajority),
		drift:     d,
		terms:     &terms{validity: option.KeyValidity, interval: option.ExtendInterval},
		patience:  patience{set: option.TryNextAfter, window: d.windowOf(option.KeyValidity)},
		start:     time.Now(),
		id:        newID(int(option.KeyMajority)),
		kick:      make(chan struct{}, 1),
		closed:    make(chan struct{}),
		locks:     make(map[string]*holding),
		ending:    make(map[*holding]chan struct{}),
		lines:     make(map[string]*line),
		leftovers: make(map[*leftover]struct{}),
		remains:   make(map[string]int),
		givenBack: make(map[*giveBack]struct{}),
		sweeps:    make(map[int]*laneSweep),
		notes:     make(map[string]*note),
		notesDue:  never,

		places:        make(map[string]*place),
		queueDown:     make(map[int]time.Duration),
		suspects:      make(map[int]bool),
		contention:    make(map[string]*contention),
		queue:         !c.NoQueue,
		localHandoffs: c.LocalHandoffs,
		fromMemory:    c.TryFromMemory,
		refusals:      make(map[string]*refusal),
	}
	k.names, _ = s.(naming)
	k.life, k.endLife = context.WithCancel(context.Background())
	s.Subscribe(k.onEvent)
	if k.queue {
		s.OpenQueue(k.id, func(err error) { k.fellBack(c.OnFallback, err) })
	}
	k.work.Go(k.upkeep)
	return k
}

// fellBack tells what the locker does without, and why.
func (k *locker) fellBack(tell func(error), err error) {
	switch {
	case tell == nil:
	case k.store.Watches():
		tell(fmt.Errorf("ctxlock: no queue, waiters are told by tracking: %w", err))
	default:
		tell(fmt.Errorf("ctxlock: no queue and no tracking, waiters poll: %w", err))
	}
}

// now is the time on the monotonic clock.
func (k *locker) now() time.Duration { return time.Since(k.start) }

// keys is how many keys a lock has.
func (k *locker) keys() int { return 2*k.majority - 1 }

func (k *locker) Client() valkey.Client { return k.client }

func (k *locker) WithContext(ctx context.Context, name string) (context.Context, context.CancelFunc, error) {
	return k.dropIn(k.take(ctx, name, Wait, k.terms))
}

func (k *locker) TryWithContext(ctx context.Context, name string) (context.Context, context.CancelFunc, error) {
	return k.dropIn(k.take(ctx, name, Try, k.terms))
}

func (k *locker) ForceWithContext(ctx context.Context, name string) (context.Context, context.CancelFunc, error) {
	return k.dropIn(k.take(ctx, name, Force, k.terms))
}

// dropIn gives the answer of take the shape that the drop-in calls have.
func (k *locker) dropIn(l *holding, ended context.Context, err error) (context.Context, context.CancelFunc, error) {
	if err != nil {
		return ended, func() {}, err
	}
	return l, l.cancel, nil
}

// take is what all calls share: the checks before, and the context that comes with an error.
func (k *locker) take(ctx context.Context, name string, mode Mode, t *terms) (l *holding, ended context.Context, err error) {
	if err := checkCall(ctx, name); err != nil {
		return nil, failed(ctx, err), err
	}
	if ctx.Err() != nil {
		err := ctxError(ctx, name, nil)
		return nil, failed(ctx, err), err
	}
	if mode == Wait {
		l, err = k.wait(ctx, name, t)
	} else {
		if mode == Try && k.fromMemory && t.From == "" {
			if r := k.refuse(name); r != nil {
				return nil, refusedContext{r.ended, ctx}, r.err
			}
		}
		l, err = k.try(ctx, name, manner{terms: t, force: mode == Force, try: mode == Try})
	}
	if err != nil {
		return nil, failed(ctx, err), err
	}
	return l, nil, nil
}

// try makes the one attempt that some calls make.
func (k *locker) try(ctx context.Context, name string, how manner) (*holding, error) {
	l, back := k.claimClean(ctx, name, how)
	if l == nil {
		return nil, k.lastWord(ctx, name, back.err)
	}
	return l, nil
}

var errNilContext = store.Permanent(errors.New("ctxlock: nil context"))

func checkCall(ctx context.Context, name string) error {
	if ctx == nil {
		return errNilContext
	}
	return checkName(name)
}

func checkName(name string) error {
	switch {
	case name == "":
		return store.Permanent(errors.New("ctxlock: empty name"))
	case len(name) > longestName:
		return store.Permanent(fmt.Errorf("ctxlock: name of %d bytes is longer than %d", len(name), longestName))
	}
	return nil
}

// failed gives the context that callers get beside an error: never nil, and nothing that looks like a lock.
func failed(ctx context.Context, err error) context.Context {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, end := context.WithCancelCause(ctx)
	end(err)
	return ctx
}

// ctxError is the error of a call whose context has ended. It wraps the context's error, its cause where that says more,
// and the last attempt's error.
func ctxError(ctx context.Context, name string, last error) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != nil && cause != err {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	if last != nil {
		err = fmt.Errorf("%w (last attempt: %w)", err, &lastAttempt{last, name})
	}
	return fmt.Errorf("ctxlock: %s: %w", quote(name), err)
}

// lastAttempt is the error of an attempt as a part of one that names the lock already.
type lastAttempt struct {
	error
	name string
}

func (e *lastAttempt) Error() string {
	return strings.TrimPrefix(e.error.Error(), fmt.Sprintf("ctxlock: %s: ", quote(e.name)))
}

// Unwrap gives the attempt's error.
func (e *lastAttempt) Unwrap() error { return e.error }

// unanswered is ctxError for a call whose context has ended before the servers had answered.
func unanswered(ctx context.Context, name string) error {
	return fmt.Errorf("%w (%w)", ctxError(ctx, name, nil), errNoAnswer)
}

// onEvent takes hints from the store. It runs on the store's own goroutine and must not block it.
func (k *locker) onEvent(event store.Event) {
	if event.All {
		k.lookAtAll()
		return
	}
	name, i, wake, ok := parseKey(k.prefix, event.Key, k.keys())
	if !ok {
		return
	}
	if event.Word != store.Changed {
		k.onWord(name, event)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if line := k.lines[name]; line != nil {
		line.signal(wake)
	}
	if !wake {
		delete(k.refusals, name)
		for l := k.locks[name]; l != nil; l = l.next {
			k.touched(l, i)
		}
	}
}

// onWord takes word about a queue.
func (k *locker) onWord(name string, event store.Event) {
	k.mu.Lock()
	back := k.hearOfQueue(name, event)
	var ops []store.Op
	if back != nil {
		ops = back.passOps(nil)
	}
	k.mu.Unlock()
	if back != nil {
		k.leave(name, ops, k.now()+back.validity)
	}
}

// lookAtAll has everything looked at again, because events may have been lost.
func (k *locker) lookAtAll() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.refusals)
	for _, line := range k.lines {
		line.signal(true)
	}
	for _, first := range k.locks {
		for l := first; l != nil; l = l.next {
			for i := range l.keys {
				l.keys[i].echo = false
				k.touched(l, i)
			}
		}
	}
}

// spawn runs f on a goroutine that Close waits for. It reports false, and runs nothing, once the locker is closed.
func (k *locker) spawn(f func()) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.spawnLocked(f)
}

func (k *locker) spawnLocked(f func()) bool {
	if k.ended {
		return false
	}
	k.work.Go(f)
	return true
}

// closeTime is how long Close, and each release, waits for servers to confirm.
const closeTime = 2 * time.Second

func (k *locker) Close() {
	k.mu.Lock()
	if k.ended {
		k.mu.Unlock()
		<-k.closed
		return
	}
	k.ended = true
	defer close(k.closed)
	k.endLife()
	var ending []*holding
	for _, first := range k.locks {
		for l := first; l != nil; l = l.next {
			ending = append(ending, l)
		}
	}
	k.mu.Unlock()

	for _, l := range ending { // every context ends before the first key is let go
		l.finish(ErrLockerClosed)
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	k.letGo(ctx, k.closingOps())
	k.work.Wait() // bounded: what it waits for uses contexts that have ended, or end by themselves
	k.letGo(ctx, k.closingOps())
	k.takeBackNotes(ctx)
	k.store.Close()
}

// closingOps takes all that may still be on the servers out of the books.
func (k *locker) closingOps() []store.Op {
	k.mu.Lock()
	defer k.mu.Unlock()
	var ops []store.Op
	for _, first := range k.locks {
		for l := first; l != nil; l = l.next {
			if l.state == held {
				l.stopTimer()
				ops = append(ops, l.releaseOps()...)
				defer k.retire(l)
			}
		}
	}
	for rest := range k.leftovers {
		ops = append(ops, rest.ops...)
		k.forget(rest)
	}
	return ops
}

// patience is how long a node may take to answer: what was set, or what is learned from the round trips.
type patience struct {
	set    time.Duration
	window time.Duration // no answer is of use that comes after the trust window
	trip   atomic.Int64  // smoothed round trip
	usual  atomic.Int64  // the same without rising at once: what most take
}

func (p *patience) now() time.Duration {
	if p.set > 0 {
		return p.set
	}
	return min(p.window, max(leastPatience, p.trips(4)))
}

// trips is the time that n round trips take; zero if that is not known.
func (p *patience) trips(n int64) time.Duration { return time.Duration(n * p.trip.Load()) }

// learn smooths round trips the way TCP does (RFC 6298), but rises at once: waiting too long costs less than giving up.
func (p *patience) learn(trip time.Duration) {
	if usual := p.usual.Load(); usual == 0 {
		p.usual.Store(int64(trip))
	} else {
		p.usual.Store(usual + (int64(trip)-usual)/8)
	}
	old := p.trip.Load()
	if int64(trip) > old {
		p.trip.Store(int64(trip))
	} else {
		p.trip.Store(old - (old-int64(trip))/8)
	}
}
