package ctxlock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ctxlock/ctxlock/store"
)

// Lock is the handle of a lock that was taken, or of several that were taken together (see Locker.AcquireAll). Its methods are
// safe for use by many goroutines at once, on a nil Lock, which stands for one that was never held, and after the lock has ended.
type Lock struct {
	held *holding // nil if it is several
	all  *bundle  // nil if it is one
}

// handleKey is what a lock's context gives its handle for.
type handleKey struct{}

// FromContext gives the handle of the lock that ctx is held as, under the drop-in calls too, or that it descends from: the innermost,
// if there are several. It is nil if there is none, or ctx is nil.
func FromContext(ctx context.Context) *Lock {
	if ctx == nil {
		return nil
	}
	l, _ := ctx.Value(handleKey{}).(*Lock)
	return l
}

// Each gives the handles of the locks that were taken together, in the order in which they were named, names given twice
// once. Of a single lock it is the lock itself, of nil nothing. All share one context: one that is released or lost ends it for all. The
// others then stay taken on the servers, no longer extended, until they are released, by themselves or together, or until they run out.
func (l *Lock) Each() []*Lock {
	var each []*Lock
	for _, h := range l.holdings() {
		each = append(each, &h.handle)
	}
	return each
}

// holdings are those that the handle is for.
func (l *Lock) holdings() []*holding {
	switch {
	case l == nil:
		return nil
	case l.all != nil:
		return l.all.members
	}
	return []*holding{l.held}
}

// first is the holding that stands for all in what they have in common; nil for a nil Lock.
func (l *Lock) first() *holding {
	if all := l.holdings(); len(all) > 0 {
		return all[0]
	}
	return nil
}

// Name is the lock's name; the names of several, joined by ", ". It is empty for nil.
func (l *Lock) Name() string {
	if h := l.first(); h != nil && l.all == nil {
		return h.name
	}
	var names []string
	for _, h := range l.holdings() {
		names = append(names, h.name)
	}
	return strings.Join(names, ", ")
}

// Value is the owner value that tells this holding from all others. On the servers it is the first line of the value of the
// lock's keys. It ends with AcquireOption.Value, or is what AcquireOption.ValueFunc made. Of several locks it is empty: see Each.
func (l *Lock) Value() string {
	if h := l.first(); h != nil && l.all == nil {
		owner, _ := splitOwner(h.owner)
		return owner
	}
	return ""
}

// Metadata is AcquireOption.Metadata.
func (l *Lock) Metadata() string {
	if h := l.first(); h != nil {
		return h.terms.Metadata
	}
	return ""
}

// Token is the fencing token: a number that is greater than the token of every earlier holding of this name, whoever held it and however
// it passed, for the guarded resource to refuse what comes late (package fence does that). Where servers lose their data and their clocks
// were set back by more than has passed, nobody but a Locker that saw the earlier ones keeps it rising. It is 0 unless AcquireOption.Fencing asked for one.
// Of several locks that were taken together it is 0, too: each of them has its own, for what its name guards, which is
// Each()[i].Token().
func (l *Lock) Token() int64 {
	if h := l.first(); h != nil && l.all == nil {
		return h.token
	}
	return 0
}

// Until is up to when the lock may be believed in unless it is extended: a margin before its keys can run out. It is on the monotonic
// clock, so compare it with time.Now of this process. It is zero once the lock has ended.
func (l *Lock) Until() (until time.Time) {
	for _, h := range l.holdings() {
		if h.handle.Err() != nil {
			return time.Time{}
		}
		ends := h.k.start.Add(time.Duration(h.trusted.Load()))
		if until.IsZero() || ends.Before(until) {
			until = ends
		}
	}
	return until
}

// Valid tells whether the lock is held: whether its context lives. It asks nobody. Once false, it stays false.
func (l *Lock) Valid() bool { return l != nil && l.Err() == nil }

// Err is nil while the lock is held, and then the cause of its context's end: ErrReleased, ErrLockerClosed, a *LostError, or the cause of
// the context that it was taken under. Of nil it is ErrReleased.
func (l *Lock) Err() error {
	if l == nil {
		return ErrReleased
	}
	var ctx context.Context = l.held
	if l.all != nil {
		ctx = l.all
	}
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}

// TTL asks the servers how long a majority of the lock's keys have left to live; of several locks, the least. It takes one round trip, at most
// TryNextAfter, and changes nothing. If the lock has ended it returns Err's error, and if the servers say so, a *LostError. A nil ctx is an error.
func (l *Lock) TTL(ctx context.Context) (time.Duration, error) {
	if err := l.usable(ctx); err != nil {
		return 0, err
	}
	all := l.holdings()
	left, errs := make([]time.Duration, len(all)), make([]error, len(all))
	l.together(func(i int, h *holding) { left[i], errs[i] = h.k.ttl(ctx, h) })
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return slices.Min(left), nil
}

// together does something about all holdings at once.
func (l *Lock) together(f func(i int, h *holding)) {
	all := l.holdings()
	var calls sync.WaitGroup
	for i, h := range all[1:] {
		calls.Go(func() { f(i+1, h) })
	}
	f(0, all[0])
	calls.Wait()
}

// usable checks what calls that ask the servers need.
func (l *Lock) usable(ctx context.Context) error {
	if ctx == nil {
		return errNilContext
	}
	if err := l.Err(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctxError(ctx, l.Name(), nil)
	}
	return nil
}

// ttl asks for the TTL of a lock's keys: a majority has the N-th greatest left.
func (k *locker) ttl(ctx context.Context, l *holding) (time.Duration, error) {
	if !k.enter() {
		return 0, ErrLockerClosed
	}
	defer k.work.Done()
	asked, cancel := context.WithTimeoutCause(ctx, k.patience.now(), errNoAnswer)
	defer cancel()
	defer context.AfterFunc(k.life, cancel)()
	ops := make([]store.Op, len(l.keys))
	for i := range ops {
		ops[i] = store.Op{Key: l.keys[i].name, Owner: l.owner}
	}
	k.onMajority(ops, majorityRequest{send: func(ops []store.Op) { k.store.Read(asked, ops) }, decided: k.agreed})
	var left []time.Duration
	failed := 0
	cause := &LostError{Name: l.name, Reason: Deleted}
	for i := range ops {
		switch op := &ops[i]; {
		case op.Err != nil:
			failed++
		case op.Holder == l.owner:
			left = append(left, op.TTL)
		case op.Holder != "":
			cause.Reason = Taken
		}
	}
	switch {
	case len(left) >= k.majority:
		slices.Sort(left)
		return left[len(left)-k.majority], nil
	case k.life.Err() != nil:
		return 0, ErrLockerClosed
	case ctx.Err() != nil:
		return 0, unanswered(ctx, l.name)
	case failed > len(ops)-k.majority || len(left)+failed >= k.majority:
		return 0, fmt.Errorf("ctxlock: %s: %w", quote(l.name), k.unread(l.name, ops))
	}
	k.lookAt(l)
	return 0, cause
}

// lookAt has a lock looked at, as an event about it would.
func (k *locker) lookAt(l *holding) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range l.keys {
		l.keys[i].echo = false
		k.touched(l, i)
	}
}

// Extend gives the lock d from now, on its servers and in Until; 0 stands for the validity that it had. From then on d is what the background
// extends it by, if it does, and it does so every half of d. It blocks for one round trip, until a majority of the keys has confirmed, and returns
// the error if they do not, or if ctx ends first: the lock may then be extended or not, and Until is right in any case. It returns
// Err's error if the lock has ended. d is bounded as KeyValidity is, and may be shorter than what is left: then Until is cut at once. A nil ctx is an error.
func (l *Lock) Extend(ctx context.Context, d time.Duration) error {
	if err := l.usable(ctx); err != nil {
		return err
	}
	if d != 0 {
		if err := checkValidity("the extension", d); err != nil {
			return err
		}
		d = wholeMilliseconds(d)
	}
	all := l.holdings()
	errs := make([]error, len(all))
	l.together(func(i int, h *holding) { errs[i] = h.extend(ctx, d) })
	return joined(errs)
}

// KeepExtended keeps a lock that was taken with NoExtend extended in the background, as other locks are, from now until stop; and
// tells onError, which may be nil, of each extension that fails, and of the loss, as AcquireOption.OnError does. On a lock that is extended
// anyway it does the latter, and stop does not change that it is extended.
//
// stop returns when no extension and no call of onError is under way any more, or will be on this account. onError is called on a goroutine of its own, where a panic ends the program. The lock is not released;
// unless somebody else keeps it, it runs out. stop may be called many times, from many goroutines, and after the lock has ended; but not by onError itself, which
// it would wait for. It waits no longer than the lock is believed in, and for onError to return. On a nil Lock nothing happens.
func (l *Lock) KeepExtended(onError func(error)) (stop func()) {
	all := l.holdings()
	if len(all) == 0 {
		return func() {}
	}
	var w *watcher
	if onError != nil {
		w = &watcher{tell: onError}
	}
	for _, h := range all {
		h.keep(w)
	}
	return sync.OnceFunc(func() {
		for _, h := range all {
			h.unkeep(w)
		}
		if w != nil {
			w.stop()
		}
	})
}

// Release gives the lock back: its context ends, and the servers are told. It does that even if ctx has ended, or is nil: it
// waits for their answer for at most 2s, and what they have not confirmed is tried again in the background. What comes back says what became
// of the lock; find it with errors.Is and errors.As:
//
//   - nil: released.
//   - ErrReleased: it had been released before, by this or by its cancel function, or the Lock is nil.
//   - a *LostError (ErrLost): it had been lost before; its remains are cleaned up.
//   - a *ReleaseError: the servers could not be told; it says by when the keys run out by themselves. If it had been lost as well, both.
//   - ErrLockerClosed: Close releases it, or has.
//
// Of several locks, the errors of all are joined; of one that was released by itself before (see Each), ErrReleased is among them.
func (l *Lock) Release(ctx context.Context) error {
	all := l.holdings()
	if len(all) == 0 {
		return ErrReleased
	}
	if l.all != nil {
		l.all.end(ErrReleased)
	}
	errs := make([]error, len(all))
	l.together(func(i int, h *holding) { errs[i] = h.release() })
	if allAre(errs, ErrReleased) {
		return ErrReleased
	}
	return joined(errs)
}

// joined is the error of one lock as it is, and the errors of several joined.
func joined(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return errors.Join(errs...)
}

func allAre(errs []error, target error) bool {
	for _, err := range errs {
		if err != target {
			return false
		}
	}
	return true
}

// String shows the names.
func (l *Lock) String() string { return fmt.Sprintf("ctxlock.Lock(%s)", quote(l.Name())) }
